"""Values between a program and its tests: objects keep their identity, changes reach the caller, nothing else does."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
from collections import deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings

from sandbox.jail.serialization import Serializer, apply, changes, snapshots
from sandbox.jail.values import ValueEncodingError
from tests.unit.sandbox.strategies import TREES, VALUES


def _crossed(value: Any) -> Any:
    return Serializer().decode(Serializer().encode(value))


@settings(deadline=None)
@given(VALUES)
def test_plain_values_survive_with_their_types(value: Any) -> None:
    crossed = _crossed(value)
    assert crossed == value
    assert type(crossed) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"ab"),
        range(3, 9, 2),
        Fraction(1, 3),
        Decimal("1.10"),
        datetime.date(2026, 11, 1),
        datetime.datetime(2026, 11, 1, 12, 30),
        deque([1, 2]),
        frozenset({1}),
    ],
)
def test_common_types_of_the_standard_library_survive(value: Any) -> None:
    crossed = _crossed(value)
    assert crossed == value
    assert type(crossed) is type(value)


def test_a_bounded_queue_keeps_its_bound() -> None:
    assert _crossed(deque([1, 2], 3)).maxlen == 3


def test_views_and_iterators_cross_as_what_they_hold() -> None:
    mapping = {"a": 1, "b": 2}
    assert _crossed(mapping.keys()) == mapping.keys()
    assert list(_crossed(mapping.values())) == [1, 2]
    assert _crossed(mapping.items()) == mapping.items()
    assert list(_crossed(iter([1, [2]]))) == [1, [2]]
    endless = _crossed(itertools.count())
    assert next(endless) == 0
    with pytest.raises(RuntimeError, match="only the first"):
        list(endless)


def test_one_object_in_two_places_stays_one_object() -> None:
    inner = [1]
    first, second = _crossed([inner, inner])
    assert first is second


def test_changes_of_arguments_reach_the_objects_of_the_caller() -> None:
    kept: list[Any] = [3, 1]
    arguments = [kept, {"x": kept}, {5}]
    caller, callee = Serializer(), Serializer()
    received = callee.decode(caller.encode(arguments))
    before = snapshots(callee.objects)
    received[0].sort()
    received[2].add(6)
    reply = callee.encode((received[0], changes(callee.objects, before)))
    result, changed = caller.decode(reply)
    apply(caller.objects, changed)
    assert result is kept
    assert (kept, arguments[2]) == ([1, 3], {5, 6})


@pytest.mark.parametrize("changed", [[(9, [])], [(0, {})], [("0", [])]])
def test_changes_that_fit_no_argument_are_refused(changed: list[Any]) -> None:
    with pytest.raises(ValueEncodingError):
        apply([[1]], changed)


@settings(deadline=None, max_examples=300)
@given(TREES)
def test_no_tree_breaks_the_decoder(tree: Any) -> None:
    with contextlib.suppress(ValueEncodingError):
        Serializer().decode(json.dumps(tree))


@pytest.mark.parametrize("text", ['["@",0]', '["@",-1]', '["@","0"]', '["D","x"]', '["q",1,0]', '["r",1.5]', "["])
def test_malformed_encodings_are_refused(text: str) -> None:
    with pytest.raises(ValueEncodingError):
        Serializer().decode(text)
