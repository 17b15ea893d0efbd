"""What YAML means in a recipe."""

import math

import pytest
import yaml

from actors.config.yaml_core import read, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("2026-11-26", "2026-11-26"),
        ("12:30", "12:30"),
        ("1e-5", 1e-5),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("20_000", 20_000),
        ("010", 10),
        ("0x1F", 31),
        ("-.inf", -math.inf),
        ("'1e-5'", "1e-5"),
        ("~", None),
        ("", None),
        ("1e", "1e"),
    ],
)
def test_words_are_words_and_numbers_numbers(text: str, value: object) -> None:
    assert read(f"key: {text}") == {"key": value}
    assert type(read(f"key: {text}")["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "a stands twice, in lines 1 and 3"),
        ("a:\n  b:\n    c: 1\n    d: 2\n    c: 3\n", r"a\.b\.c stands twice, in lines 3 and 5"),
        ("a: [{b: 1, b: 2}]", r"a\.0\.b stands twice, in line 1"),
        ("a: [", "line 1, column 5"),
        ("a: b: c", "line 1, column 5"),
        ("[" * 5000, "nested too deeply"),
        ("\x00", "not YAML"),
        ("!!python/object:os.system x", "tag"),
        ("!!timestamp x", "tag"),
        ("a: 1\n---\na: 2", "a recipe is one document; found a second at line 2"),
        ("9" * 5000, "digits"),
        (r'a: "b\0"', "line 1: a text holds"),
        (r'a: "b\ud800"', "line 1: a text holds"),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        read(text)
    assert "\n" not in str(error.value)


def test_a_merged_key_may_be_overridden() -> None:
    assert read("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}")["b"] == {"x": 3, "y": 2}


def test_what_is_written_is_read_the_same_by_both_versions_of_yaml() -> None:
    words = ["off", "no", "1e-5", "010", "0o17", "true", "", "~", "12:30", "2026-11-26", "<<", "=", "1_0", ".inf"]
    tree = {"words": words, "numbers": [1e-5, 0, -1.5, math.inf], "rest": [None, True, {"ü": "ä"}]}
    assert read(write(tree)) == tree
    assert yaml.safe_load(write(tree)) == tree
