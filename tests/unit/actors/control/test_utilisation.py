"""Rates and busy shares from totals: what a missed heartbeat must not cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.control.utilisation import POOLS, Utilisation
from actors.membership import Report, Totals


def totals(**generator: float) -> dict[str, Totals]:
    found = {role: Totals() for role in POOLS}
    found["generator"] = Totals(**generator)  # type: ignore[arg-type]
    return found


def test_a_pool_is_busy_for_the_share_of_its_processes_time_that_it_worked() -> None:
    seen = Utilisation(0.0)
    seen.observe(totals(uptime_seconds=10, busy_seconds=1), 5.0)
    # two processes, two seconds each: one worked all the time, the other one never
    seen.observe(totals(uptime_seconds=14, busy_seconds=3), 7.0)
    assert seen.busy["generator"] == pytest.approx(0.5)
    assert seen.interval_seconds == 2.0


def test_a_missed_heartbeat_loses_no_token_and_leaves_the_busy_share_as_it_was() -> None:
    seen = Utilisation(0.0)
    seen.observe(totals(uptime_seconds=1, busy_seconds=1, generated_tokens=100), 1.0)
    seen.observe(totals(uptime_seconds=1, busy_seconds=1, generated_tokens=100), 2.0)
    assert seen.busy["generator"] == 1.0
    assert seen.tokens_per_second["generation"] == 0.0
    seen.observe(totals(uptime_seconds=3, busy_seconds=3, generated_tokens=300), 3.0)
    assert seen.tokens_per_second["generation"] == 200.0


def test_a_pool_of_which_nobody_is_heard_of_is_idle_and_catches_up_when_it_is_back() -> None:
    seen = Utilisation(0.0)
    seen.observe(totals(uptime_seconds=10, busy_seconds=10, generated_tokens=100), 10.0)
    seen.observe(totals(uptime_seconds=10, busy_seconds=10, generated_tokens=100), 31.0, absent={"generator"})
    assert seen.busy["generator"] == 0.0
    seen.observe(totals(uptime_seconds=32, busy_seconds=21, generated_tokens=320), 32.0)
    assert seen.busy["generator"] == pytest.approx(0.5)
    assert seen.tokens_per_second["generation"] == 220.0


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0.01, 10)), min_size=1, max_size=20))
def test_rates_times_intervals_add_up_to_all_tokens(looks: list[tuple[int, float]]) -> None:
    seen, now, tokens, counted = Utilisation(0.0), 0.0, 0, 0.0
    for grown, seconds in looks:
        now, tokens = now + seconds, tokens + grown
        seen.observe(totals(generated_tokens=tokens), now)
        counted += seen.tokens_per_second["generation"] * seen.interval_seconds
    assert counted == pytest.approx(tokens)


def test_a_list_that_was_lost_makes_no_leap_and_loses_nothing_of_those_who_come_back() -> None:
    def report(process: str, tokens: int) -> Report:
        return Report(process=process, uptime_seconds=float(tokens), generated_tokens=tokens)

    seen = Utilisation(0.0)
    seen.observe(totals(generated_tokens=1000), 1.0)
    seen.list_was_lost([("g-1", "generator", report("a", 700)), ("g-2", "generator", report("b", 300))])
    seen.are_back([("g-1", "generator", report("a", 720))])
    seen.observe(totals(generated_tokens=720), 2.0)
    assert seen.tokens_per_second["generation"] == 20
    seen.are_back([("g-1", "generator", report("a", 720)), ("g-2", "generator", report("c", 5))])
    seen.observe(totals(generated_tokens=725), 3.0)
    assert seen.tokens_per_second["generation"] == 5, "another process began at nothing"
