"""Values between a program and its tests: objects keep their identity, changes reach the caller, nothing else does."""

from __future__ import annotations

import contextlib
import datetime
import json
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import numpy as np
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
        datetime.datetime(2026, 11, 1, 12, 30, tzinfo=datetime.UTC),
        datetime.time(12, 30, 1, 5),
        datetime.timedelta(days=-1, seconds=5),
        deque([1, 2]),
        Counter("aab"),
        OrderedDict(b=1, a=2),
        defaultdict(list, a=[1]),
        uuid.UUID(int=5),
        PurePosixPath("a/b"),
        slice(1, None),
        ...,
        frozenset({1}),
    ],
)
def test_common_types_of_the_standard_library_survive(value: Any) -> None:
    crossed = _crossed(value)
    assert crossed == value
    assert type(crossed) is type(value)


def test_a_bounded_queue_keeps_its_bound() -> None:
    assert _crossed(deque([1, 2], 3)).maxlen == 3


def test_views_cross_as_what_they_hold() -> None:
    mapping = {"a": 1, "b": 2}
    assert _crossed(mapping.keys()) == mapping.keys()
    assert list(_crossed(mapping.values())) == [1, 2]
    assert _crossed(mapping.items()) == mapping.items()


def test_arrays_cross_as_arrays() -> None:
    array = np.arange(6).reshape(2, 3) / 2
    crossed = _crossed(array)
    assert (crossed == array).all()
    assert (crossed.dtype, crossed.shape) == (array.dtype, array.shape)
    assert _crossed(np.int64(3)) == 3


def test_one_object_in_two_places_stays_one_object() -> None:
    inner = [1]
    first, second = _crossed([inner, inner])
    assert first is second


def test_changes_of_arguments_reach_the_objects_of_the_caller() -> None:
    kept: list[Any] = [3, 1]
    arguments = [kept, {"x": kept}, {5}]
    caller, callee = Serializer(), Serializer()
    received = callee.decode(caller.encode(arguments))
    before = snapshots(callee)
    received[0].sort()
    received[2].add(6)
    reply = callee.encode((received[0], changes(callee, before)))
    result, changed = caller.decode(reply)
    apply(caller, changed)
    assert result is kept
    assert (kept, arguments[2]) == ([1, 3], {5, 6})


@pytest.mark.parametrize("changed", [[(9, [])], [(0, {})], [("0", [])], [(-1, {})], [5], {0: []}])
def test_changes_that_fit_no_argument_are_refused(changed: list[Any]) -> None:
    caller = Serializer()
    caller.encode([1])
    with pytest.raises(ValueEncodingError):
        apply(caller, changed)


@settings(deadline=None, max_examples=300)
@given(TREES)
def test_no_tree_breaks_the_decoder(tree: Any) -> None:
    with contextlib.suppress(ValueEncodingError):
        Serializer().decode(json.dumps(tree))


@pytest.mark.parametrize(
    "text",
    ['["@",0]', '["@",-1]', '["@","0"]', '["date","x"]', '["Fraction",1,0]', '["range",1.5]', '["bytearray",9]', "["],
)
def test_malformed_encodings_are_refused(text: str) -> None:
    with pytest.raises(ValueEncodingError):
        Serializer().decode(text)
