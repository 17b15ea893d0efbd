"""The health checks, on synthetic events."""

import math

import pytest

from actors.events import Event, WriteFailed
from actors.report.health import warnings
from tests.unit.actors.report.example_events import evaluation, learning_run, reward_model, state_of, step, tick


def symptoms(*events: Event) -> set[str]:
    return {warning.symptom for warning in warnings(state_of(*events, steps=200))}


def test_a_run_that_learns_raises_no_warning() -> None:
    assert symptoms(*learning_run(60)) == set()


def test_a_collapse_is_warned_of() -> None:
    steps = [
        step(n, reward=max(0.1, 0.6 - 0.02 * n), entropy=0.05 * math.exp(-n / 6), mixed_groups=max(0.0, 0.8 - 0.03 * n))
        for n in range(1, 41)
    ]
    assert {"reward", "entropy", "mixed_groups"} <= symptoms(*steps)


@pytest.mark.parametrize(("accuracy", "held_out", "warned"), [(0.5, 64, True), (0.6, 64, True), (0.6, 1000, False)])
def test_a_reward_model_that_guesses_is_warned_of(accuracy: float, held_out: int, warned: bool) -> None:
    assert ("reward_model" in symptoms(reward_model(accuracy, held_out))) == warned


@pytest.mark.parametrize(("worst", "warned"), [(0.02, False), (-0.9, True)])
def test_a_reward_of_preferences_alone_may_waver_around_nothing(worst: float, warned: bool) -> None:
    part = {"reward/preference": 3.0, "reward_std": 0.7}
    rewards = [0.1, 0.05, 0.1] * 5 + [worst] * 5
    assert ("reward" in symptoms(*(step(i, more=part, reward=r) for i, r in enumerate(rewards, 1)))) == warned


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


def test_what_cannot_be_written_is_warned_of_until_it_is_written_again() -> None:
    failed = WriteFailed(what="checkpoints", reason="step-000040: No space left on device")
    (warning,) = warnings(state_of(step(1), failed))
    assert warning.text == "Could not write checkpoints: step-000040: No space left on device."
    assert symptoms(step(1), failed, WriteFailed(what="checkpoints", reason="")) == set()
