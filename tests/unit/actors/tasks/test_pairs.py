"""Preference pairs: what is read from a file."""

import json
from pathlib import Path

import pytest

from actors.errors import RecipeError
from actors.tasks import read_pairs

GOOD = {"prompt": "1+1=", "chosen": "2", "rejected": "three"}


def written(folder: Path, *lines: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_pairs_are_read_with_a_prompt_or_a_conversation(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    first, second = read_pairs(written(tmp_path, GOOD, "", {"messages": talk, "chosen": "Hi", "rejected": "Hello you"}))
    assert (first.task.messages, first.chosen, first.rejected) == ((("user", "1+1="),), "2", "three")
    assert second.task.messages == (("system", "Be brief."), ("user", "Hello"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", r"line 2: not JSON"),
        ("[1]", r"line 2: a list"),
        ({"prompt": "x", "chosen": "a"}, r"line 2: the key `rejected` is missing"),
        ({"chosen": "a", "rejected": "b"}, r"line 2: give either `prompt` or `messages`"),
        ({**GOOD, "chosen": ""}, r"line 2: `chosen` must be a text that is not empty"),
        ({**GOOD, "rejected": "2"}, r"line 2: `chosen` and `rejected` are the same"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: object, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        read_pairs(written(tmp_path, GOOD, line))


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no pair"):
        read_pairs(written(tmp_path, ""))
    with pytest.raises(RecipeError, match="cannot be read"):
        read_pairs(tmp_path / "missing.jsonl")
