"""Numbers as people and models write them: exact, and never expensive."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.numbers import parse_number


def test_numbers_cost_nothing_however_they_are_written() -> None:
    assert parse_number("1e999999999") is None
    assert parse_number("9" * 100_000) is None


@given(st.text(max_size=40))
@settings(deadline=None)
def test_parse_number_never_raises(text: str) -> None:
    parse_number(text)


@given(st.integers(-(10**12), 10**12))
@settings(deadline=None)
def test_integers_survive_however_they_are_grouped(value: int) -> None:
    assert parse_number(f"{value:,}") == value == parse_number(str(value))
