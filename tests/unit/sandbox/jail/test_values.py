"""The value encoding: what goes in comes out, and no bytes break the decoder or the comparison."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.jail import values
from sandbox.jail.values import ValueEncodingError
from sandbox.programs.matching import output_matches, value_matches

HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(HASHABLE, inner, max_size=4) | st.sets(HASHABLE, max_size=4)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(VALUES)
def test_values_survive_with_their_types(value: Any) -> None:
    decoded = values.decode(values.encode(value))
    assert decoded == value
    assert type(decoded) is type(value)
    assert value_matches(value, values.encode(value))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:0123456789.eE-+ldtszibcf nulltrefa', max_size=120))
def test_no_bytes_break_the_decoder(encoding: bytes | str) -> None:
    with contextlib.suppress(ValueEncodingError):
        values.decode(encoding)
    assert value_matches([1], encoding) in (True, False)
    assert value_matches({"a": {1}}, encoding) in (True, False)


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["i", "f", "b", "c", "d", "s", "0x1"]),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


@settings(deadline=None, max_examples=300)
@given(TREES, VALUES)
def test_no_tree_breaks_the_comparison(tree: Any, expected: Any) -> None:
    encoding = json.dumps(tree)
    assert value_matches(expected, encoding) in (True, False)
    with contextlib.suppress(ValueEncodingError):
        values.decode(encoding)


@pytest.mark.parametrize(
    "encoding",
    ["[" * 100_000, '["l",' * 5000 + "1" + "]" * 5000, "9" * 100_000, '["i","0x' + "f" * 2_000_000 + '"]',
     "1e999", "NaN", '["f","1_0"]', '["s",["l"]]', '["d",1]', '["x"]', "{}", '["i","12"]', '["c","1"]', "", "\udcff"],
)  # fmt: skip
def test_hostile_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(ValueEncodingError):
        values.decode(encoding)
    assert not value_matches([[1]], encoding)


def test_colliding_keys_cost_the_judge_nothing() -> None:
    modulus = 2**61 - 1
    pairs = [part for number in range(50_000) for part in (["i", hex(number * modulus)], 1)]
    assert not value_matches({"a": 1}, json.dumps(["d", *pairs]))
    assert not value_matches({str(number): 1 for number in range(50_000)}, json.dumps(["d", *pairs]))


def test_subclasses_cross_as_their_builtin_value() -> None:
    class Evil(int):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

        def __repr__(self) -> str:
            return "42"

    assert values.decode(values.encode(Evil(7))) == 7
    assert not value_matches(42, values.encode(Evil(7)))
    assert values.decode(values.encode(Counter("aab"))) == {"a": 2, "b": 1}
    assert values.decode(values.encode(OrderedDict(a=1))) == {"a": 1}
    assert values.decode(values.encode(defaultdict(list, a=[1]))) == {"a": [1]}
    with pytest.raises(ValueEncodingError):
        values.encode(object())
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ValueEncodingError):
        values.encode(cycle)


@pytest.mark.parametrize(
    ("expected", "given_value", "same"),
    [
        (1, True, False), (True, 1, False), (1, 1.0, True), (1.0, 1, True), (0.1 + 0.2, 0.3, True), (1, 1.1, False),
        ([1, 2], (1, 2), True), ([1, 2], [2, 1], False), ({"a": [1.0]}, {"a": [1]}, True), ("1", 1, False),
        (None, False, False), (math.inf, math.inf, True), (1.0, math.nan, False), (math.nan, math.nan, False),
        (10**30, 10**30, True), (10**30, 10**30 + 1, False), ({1, 2}, {2, 1}, True), ([1, 2], {1, 2}, False),
        ("", [], False), ([], [], True), ({}, [], False), (b"x", b"x", True), (1 + 2j, 1 + 2j, True),
    ],
)  # fmt: skip
def test_values_are_compared_by_type_and_tolerance(expected: Any, given_value: Any, same: bool) -> None:
    assert value_matches(expected, values.encode(given_value)) is same


@settings(deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_output_comparison_never_raises(expected: bytes, output: bytes) -> None:
    assert output_matches(expected, output) in (True, False)
    assert output_matches(expected, expected)
