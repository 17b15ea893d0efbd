"""The value encoding: what goes in comes out, and no bytes break the decoder."""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.jail import values
from sandbox.jail.values import ValueEncodingError
from sandbox.programs.matching import value_matches
from tests.unit.sandbox.strategies import VALUES


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


@pytest.mark.parametrize(
    "encoding",
    ["[" * 100_000, '["l",' * 5000 + "1" + "]" * 5000, "9" * 100_000, '["i","0x' + "f" * 2_000_000 + '"]',
     "1e999", "NaN", '["f","1_0"]', '["s",["l"]]', '["d",1]', '["x"]', "{}", '["i","12"]', '["c","1"]', "", "\udcff"],
)  # fmt: skip
def test_hostile_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(ValueEncodingError):
        values.decode(encoding)
    assert not value_matches([[1]], encoding)


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
