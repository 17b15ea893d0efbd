"""The fold of a run's events, the summary and the health checks, on synthetic events."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.events import EVENT, Event, Restart, RewardModelDone, StepDone, WeightSync, merge_ticks
from actors.report.display import plain
from actors.report.health import warnings
from actors.report.series import Series
from actors.report.state import RunState
from actors.report.summary import RunSummary, summarise, to_json
from tests.unit.actors.report.example_events import evaluation, info, learning_run, sample, step, tick


def state_of(*events: Event, **about: int) -> RunState:
    state = RunState(info(**about))
    for event in events:
        state.fold(event)
    return state


def symptoms(*events: Event) -> set[str]:
    return {warning.symptom for warning in warnings(state_of(*events, steps=200))}


def sync(version: int, pause: float) -> WeightSync:
    return WeightSync(
        seconds=version, version=version, members=1, bytes=10, transfer_seconds=1, pause_seconds=pause, total_seconds=2
    )


def test_every_event_survives_a_line_of_json() -> None:
    for event in learning_run(20):
        assert EVENT.validate_json(event.model_dump_json()) == event


def test_a_number_that_is_not_finite_is_null_in_json_and_nan_again() -> None:
    line = step(1, loss=math.nan).model_dump_json()
    assert json.loads(line)["statistics"] == {"loss": None}
    read = EVENT.validate_json(line)
    assert isinstance(read, StepDone)
    assert math.isnan(read.statistics["loss"])


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


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=300))
def test_a_series_keeps_mean_and_extremes_in_bounded_memory(values: list[float]) -> None:
    series = Series(limit=8)
    for i, value in enumerate(values):
        series.add(i, float(i), value)
    points = list(series)
    assert len(points) <= 8
    assert sum(point.count for point in points) == len(values)
    assert sum(point.value * point.count for point in points) == pytest.approx(sum(values), abs=1e-4)
    assert min(point.low for point in points) == min(values)
    assert max(point.high for point in points) == max(values)


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


def test_the_summary_has_exactly_the_documented_keys() -> None:
    data = json.loads(to_json(summarise(RunState(info()))))
    assert data == {
        "recipe": "synthetic",
        "seed": 7,
        "wall_seconds": 0.0,
        "steps": 0,
        "held_out": {
            "before": {"pass_at_1": None, "maj_at_k": None, "n": None},
            "after": {"pass_at_1": None, "maj_at_k": None, "n": None},
        },
        "reward_model": {"accuracy": None, "margin": None, "n": None},
        "tokens": {"generated": 0, "trained": 0},
        "tokens_per_second": {"generation": None, "learning": None},
        "staleness": {"max": None, "mean": None, "histogram": {}},
        "busy_share": {"generator": None, "verifier": None, "learner": None},
        "weight_sync": {"transfer_seconds": None, "pause_seconds": None, "bytes": None},
        "logprob_difference_mean": None,
        "groups": {"issued": 0, "trained": 0, "committed": 0, "dropped": {}, "in_flight": 0},
        "restarts": 0,
    }


def test_every_key_of_the_summary_is_documented() -> None:
    contract = RunSummary.model_json_schema()
    for part in (contract, *contract["$defs"].values()):
        assert all(field.get("description") for field in part["properties"].values()), part["title"]


def test_the_summary_of_a_whole_run() -> None:
    summary = summarise(state_of(*learning_run(60)))
    assert (summary.held_out.before.pass_at_1, summary.held_out.after.pass_at_1) == (0.42, 0.92)
    assert summary.steps == 60
    assert summary.staleness.max == 4
    assert sum(summary.staleness.histogram.values()) == summary.tokens.trained
    groups = summary.groups
    assert groups.issued == groups.in_flight + groups.trained + groups.committed + sum(groups.dropped.values())
    assert summary.busy_share.learner == pytest.approx(0.9)
    assert summary.tokens.generated == pytest.approx(850 * 180, rel=0.1)
    assert summary.restarts == 1


def test_weight_times_are_medians() -> None:
    summary = summarise(state_of(sync(1, 0.1), sync(2, 0.2), sync(3, 9.0)))
    assert summary.weight_sync.pause_seconds == 0.2


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


def test_a_run_that_learns_raises_no_warning() -> None:
    assert symptoms(*learning_run(60)) == set()


def test_a_collapse_is_warned_of() -> None:
    steps = [
        step(n, reward=max(0.1, 0.6 - 0.02 * n), entropy=0.05 * math.exp(-n / 6), mixed_groups=max(0.0, 0.8 - 0.03 * n))
        for n in range(1, 41)
    ]
    assert {"reward", "entropy", "mixed_groups"} <= symptoms(*steps)


def reward_model(accuracy: float, held_out: int = 64) -> RewardModelDone:
    return RewardModelDone(seconds=9, steps=120, pairs=500, held_out=held_out, accuracy=accuracy, margin=1.5, loss=0.4)


def test_a_reward_model_is_told_and_summarised() -> None:
    done = reward_model(0.9375)
    assert EVENT.validate_json(done.model_dump_json()) == done
    state = state_of(done)
    line = "reward model: 93.8% of 64 held-out pairs in the right order, margin 1.5 nats, after 120 steps"
    assert plain(state, done) == line
    assert summarise(state).reward_model.model_dump() == {"accuracy": 0.9375, "margin": 1.5, "n": 64}


@pytest.mark.parametrize(("accuracy", "held_out", "warned"), [(0.5, 64, True), (0.6, 64, True), (0.6, 1000, False)])
def test_a_reward_model_that_guesses_is_warned_of(accuracy: float, held_out: int, warned: bool) -> None:
    assert ("reward_model" in symptoms(reward_model(accuracy, held_out))) == warned


@pytest.mark.parametrize(("worst", "warned"), [(0.02, False), (-0.9, True)])
def test_a_reward_of_preferences_alone_may_waver_around_nothing(worst: float, warned: bool) -> None:
    part = {"reward/preference": 3.0, "reward_std": 0.7}
    rewards = [0.1, 0.05, 0.1] * 5 + [worst] * 5
    assert ("reward" in symptoms(*(step(i, reward=r, **part) for i, r in enumerate(rewards, 1)))) == warned


def test_short_answers_are_warned_of() -> None:
    assert symptoms(*(step(n, response_length_mean=30.0 if n < 20 else 4.0) for n in range(1, 30))) == {"length"}


def test_an_accuracy_drop_is_warned_of_only_beyond_noise() -> None:
    best = evaluation("step 10", 10, 0.80, n=256)
    assert symptoms(best, evaluation("step 20", 20, 0.72, n=256)) == set()
    assert symptoms(best, evaluation("step 20", 20, 0.50, n=256)) == {"accuracy"}


def test_a_solved_task_raises_no_alarm_for_its_low_entropy() -> None:
    steps = [step(n, entropy=0.001, mixed_groups=0.02) for n in range(1, 20)]
    assert symptoms(*steps) == {"entropy", "mixed_groups"}
    assert symptoms(*steps, evaluation("step 19", 19, 0.97)) == set()


def test_a_broken_staleness_bound_is_the_first_warning() -> None:
    state = state_of(step(1, staleness={5: 1}, loss=math.nan), max_staleness=4)
    assert [warning.symptom for warning in warnings(state)] == ["staleness", "not_finite"]


def test_wasted_groups_are_warned_of() -> None:
    assert symptoms(tick(1.0, issued=100, committed=60, dropped={"stale": 20, "infra_error": 20})) == {
        "stale",
        "infra_error",
    }
    assert symptoms(tick(1.0, issued=10, dropped={"stale": 10})) == set()


def test_infos_folder_is_only_carried(tmp_path: Path) -> None:
    RunState(info(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
