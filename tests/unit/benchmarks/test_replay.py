"""The parts of the benchmark `replay` that need no server."""

import io

import pytest
from rich.console import Console

from benchmarks.replay import (
    LARGE,
    SMALL,
    TINY,
    Growth,
    Row,
    growth_table,
    percentiles,
    take_turns,
    throughput_table,
    verdicts,
)


def shown(table: object) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def large(name: str, groups: int) -> Row:
    return Row(LARGE.name, name, groups, seconds=1.0, group_bytes=LARGE.group_bytes)


def test_groups_are_as_large_as_they_say_and_valid() -> None:
    for size in (TINY, SMALL):
        payload = size.payload()
        assert type(payload).of(payload.arrays(), size.completions) is not None
        assert len(payload.tokens) == size.completions * size.tokens
    assert LARGE.group_bytes == pytest.approx(16 * 16_384 * (4 + 4 + 4), rel=0.01)


def test_everybody_has_the_same_time_and_the_fast_take_more_turns() -> None:
    order: list[str] = []
    taken = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 1e-9)
    assert order == ["a", "b"]
    assert {name: rounds for name, (rounds, _) in taken.items()} == {"a": 1, "b": 1}


def test_percentiles_are_of_the_values() -> None:
    assert percentiles([float(x) for x in range(101)]) == (50.0, 99.0)


def test_what_falls_short_of_a_target_is_said() -> None:
    rows = [large("ours, journal off", 70), large("bare pyzmq", 100), large("ray.util.queue", 10)]
    assert verdicts(rows) == [
        "large groups, journal off: 0.70 of bare pyzmq; target 0.6: reached",
        "large groups, journal off: 7.00 of ray.util.queue; target 20: missed",
    ]


def test_a_journal_is_held_against_the_slower_of_network_and_disk() -> None:
    rows = [large("ours, journal fsync", 30), large("bare pyzmq", 100), large("plain file, fsync", 40)]
    assert verdicts(rows) == ["large groups, journal fsync: 0.75 of plain file, fsync; target 0.6: reached"]


def test_tables_fit_80_columns() -> None:
    rows = [large("ours, journal buffered", 12_345), large("bare pyzmq, no copies", 98_765), large("bare pyzmq", 1)]
    for table in (throughput_table(rows), growth_table("idle clients", [Growth(100_000, 0.01, 0.1, 10**9)])):
        text = shown(table)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80
