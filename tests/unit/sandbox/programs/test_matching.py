"""Comparison of values and output: by type and tolerance, and safe from hostile ones."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.jail import values
from sandbox.jail.values import ValueEncodingError
from sandbox.programs.matching import output_matches, value_matches
from tests.unit.sandbox.strategies import TREES, VALUES


@settings(deadline=None, max_examples=300)
@given(TREES, VALUES)
def test_no_tree_breaks_the_comparison(tree: Any, expected: Any) -> None:
    encoding = json.dumps(tree)
    assert value_matches(expected, encoding) in (True, False)
    with contextlib.suppress(ValueEncodingError):
        values.decode(encoding)


def test_colliding_keys_cost_the_judge_nothing() -> None:
    modulus = 2**61 - 1
    pairs = [part for number in range(50_000) for part in (["i", hex(number * modulus)], 1)]
    assert not value_matches({"a": 1}, json.dumps(["d", *pairs]))
    assert not value_matches({str(number): 1 for number in range(50_000)}, json.dumps(["d", *pairs]))


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


def test_whole_numbers_and_keys_from_json() -> None:
    assert value_matches(4, values.encode(4.0)) and value_matches(5, values.encode(5.0000001))
    assert not value_matches(1000000007, values.encode(1e9))
    assert value_matches({"1": 2}, values.encode({1: 2})) and not value_matches({"1": 2}, values.encode({1.0: 2}))
