"""The fold of a run's events, on synthetic events."""

from pathlib import Path

import pytest

from actors.events import Restart, merge_ticks
from actors.report.state import RunState
from actors.report.summary import summarise
from tests.unit.actors.report.example_events import evaluation, info, sample, state_of, step, tick


def test_merged_ticks_keep_the_tokens_generated() -> None:
    ticks = [tick(1.0, 1.0, 900.0, 1.0), tick(4.0, 3.0, 100.0, 0.0)]
    merged = merge_ticks(ticks)
    assert merged.interval_seconds == 4.0
    assert merged.tokens_per_second["generation"] == pytest.approx(300.0)
    assert merged.busy["generator"] == pytest.approx(0.25)
    assert state_of(*ticks).generated == state_of(merged).generated == pytest.approx(1200.0)


def test_the_screen_shows_the_rate_of_the_last_half_minute() -> None:
    state = state_of(tick(1.0, 1.0, 9000.0), *[tick(40.0 + i, 1.0, 500.0 * (i % 2)) for i in range(20)])
    assert state.recent_rate("generation") == pytest.approx(250.0)
    assert state_of().recent_rate("generation") is None


def test_steps_that_are_taken_again_after_a_resume_count_once() -> None:
    first = [step(n, staleness={0: 10, n % 3: 5}, reward=0.1 * n) for n in range(1, 8)]
    again = [step(n, seconds=20.0 + n, staleness={1: 7}, reward=1.0) for n in range(5, 9)]
    lost = evaluation("step 6", 6, 0.9)
    state = state_of(*first[:6], lost, first[6], *again)
    clean = state_of(*first[:4], *again)
    assert state.staleness == clean.staleness
    assert state.trained_tokens == clean.trained_tokens
    assert [p.value for p in state.statistics["reward"]] == [p.value for p in clean.statistics["reward"]]
    assert state.evaluations == []
    assert state.step == 8


def test_steps_without_comparable_tokens_do_not_dilute_the_logprob_difference() -> None:
    compared = step(1, logprob_difference_mean=0.02, logprob_difference_tokens=300.0)
    more = step(2, logprob_difference_mean=0.06, logprob_difference_tokens=100.0)
    nothing = step(3, logprob_difference_mean=0.0, logprob_difference_tokens=0.0)
    assert summarise(state_of(compared, more, nothing)).logprob_difference_mean == pytest.approx(0.03)


def test_memory_is_bounded_in_samples_and_restarts() -> None:
    restart = Restart(seconds=1, role="generator", member="g", reason="gone")
    state = state_of(*(sample(float(i)) for i in range(500)), *[restart] * 500)
    assert len(state.samples) == 12
    assert state.restarts == 500
    assert len(state.last_restarts) < 500


def test_infos_folder_is_only_carried(tmp_path: Path) -> None:
    RunState(info(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
