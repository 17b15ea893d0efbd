"""The health checks, on synthetic events."""

import math

import pytest

from actors.events import Event, Phase, Restart, Tick, Unresponsive, WriteFailed
from actors.observability import thresholds
from actors.report.health import HealthWarning, warnings
from actors.report.recorder import ENDING
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


@pytest.mark.parametrize(("gain", "found"), [(0.0, {"length_growth"}), (0.02, set())])
def test_answers_that_grow_are_warned_of_where_they_earn_nothing_by_it(gain: float, found: set[str]) -> None:
    assert symptoms(*(step(n, response_length_mean=10.0 * n, reward=0.5 + gain * n) for n in range(1, 30))) == found


@pytest.mark.parametrize(("last", "found"), [(0.6, {"format"}), (0.85, set())])
def test_a_format_that_is_lost_is_warned_of(last: float, found: set[str]) -> None:
    assert symptoms(*(step(n, format_rate=0.95 if n < 20 else last) for n in range(1, 30))) == found


@pytest.mark.parametrize(("mixing", "found"), [(0.3, {"language_mixing"}), (0.1, set())])
def test_languages_that_are_mixed_are_warned_of(mixing: float, found: set[str]) -> None:
    assert symptoms(*(step(n, language_mixing=mixing) for n in range(1, 10))) == found


def test_an_accuracy_drop_is_warned_of_only_beyond_noise() -> None:
    best = evaluation("step 10", 10, 0.80, n=256)
    assert symptoms(best, evaluation("step 20", 20, 0.72, n=256)) == set()
    assert symptoms(best, evaluation("step 20", 20, 0.50, n=256)) == {"accuracy"}


def test_a_solved_task_raises_no_alarm_for_its_low_entropy() -> None:
    steps = [step(n, entropy=0.001, mixed_groups=0.02) for n in range(1, 20)]
    assert symptoms(*steps) == {"entropy", "mixed_groups"}
    assert symptoms(*steps, evaluation("step 19", 19, 0.97)) == set()


def test_a_run_that_a_teacher_teaches_needs_no_mixed_rewards() -> None:
    assert symptoms(*(step(n, mixed_groups=0.0) for n in range(1, 20))) == {"mixed_groups"}
    taught = (step(n, mixed_groups=0.0, more={"reverse_kl": 0.2}) for n in range(1, 20))
    assert symptoms(*taught) == set()


def test_a_broken_staleness_bound_is_the_first_warning() -> None:
    state = state_of(step(1, staleness={5: 1}, loss=math.nan), max_staleness=4)
    assert [warning.symptom for warning in warnings(state)] == ["staleness", "not_finite"]


def test_wasted_groups_are_warned_of() -> None:
    assert symptoms(tick(1.0, issued=100, committed=60, dropped={"stale": 20, "infra_error": 20})) == {
        "stale",
        "infra_error",
    }
    assert symptoms(tick(1.0, issued=10, dropped={"stale": 10})) == set()


# ---------------------------------------------------------------- runs that get nowhere


def only(*events: Event) -> HealthWarning:
    (warning,) = warnings(state_of(*events, steps=200))
    return warning


def test_a_run_without_one_step_warns_that_every_group_is_dropped() -> None:
    """In the synthetic run 8 groups are a batch; five batches' worth, and 50 groups, are needed to speak of it."""
    counted = [tick(float(n), issued=10 * n + 8, in_flight=8, dropped={"zero_variance": 10 * n}) for n in range(1, 9)]
    assert symptoms(*counted[:4]) == set()
    warning = only(*counted)
    assert warning.symptom == "fruitless"
    assert "80 groups" in warning.text and "80 zero_variance" in warning.text
    assert "tasks.sources" in warning.fix and "controller.fruitless_batches" in warning.fix


def test_a_filter_that_keeps_a_third_of_the_groups_is_no_cause_for_alarm() -> None:
    """DAPO's recipes generate three batches for one; each batch that comes together starts the count anew."""
    ticks = [
        tick(float(n), issued=48 * n, trained=8 * n, in_flight=24 * n, dropped={"zero_variance": 16 * n})
        for n in range(1, 50)
    ]
    assert symptoms(*ticks) == set()


def test_groups_that_wait_for_an_evaluation_to_end_are_not_fruitless() -> None:
    """Nobody takes a batch then, and those that cannot be used are dropped all the while."""
    ticks = [tick(float(n), issued=99 * n, ready=32, in_flight=98, dropped={"zero_variance": 90 * n}) for n in range(9)]
    assert symptoms(*ticks) == set()


def test_groups_lost_with_their_generators_say_nothing_of_the_tasks() -> None:
    assert symptoms(*(tick(float(n), issued=90 * n, dropped={"worker_lost": 90 * n}) for n in range(9))) == set()


def test_a_resumed_run_counts_its_dropped_groups_anew() -> None:
    before = [tick(float(n), issued=60 * n, dropped={"zero_variance": 60 * n}) for n in range(3)]
    resumed = [tick(9.0, issued=20, committed=16, dropped={"zero_variance": 4})]
    assert symptoms(*before) == {"fruitless"}
    assert symptoms(*before, *resumed) == set()


def test_what_a_verifier_said_reaches_the_warning() -> None:
    said = "no verifier is called 'mathh'; did you mean math?"
    broken = tick(2.0, issued=100, dropped={"infra_error": 90}).model_copy(update={"refusals": {"infra_error": said}})
    first = tick(1.0, issued=1)
    found = {w.symptom: f"{w.text} {w.fix}" for w in warnings(state_of(first, broken))}
    assert said in found["fruitless"] and "logs/verifier" in found["fruitless"]
    assert said in found["infra_error"]


def unresponsive(member: str, state: str, seconds: float = 1.0) -> Unresponsive:
    return Unresponsive.model_validate(
        {"seconds": seconds, "role": member.split("-")[0], "member": member, "state": state, "detail": "for 21 s"}
    )


def test_who_does_not_work_is_named_until_it_is_back_or_replaced() -> None:
    silent, stuck = unresponsive("generator-1", "silent"), unresponsive("generator-2", "stuck")
    warning = only(silent, stuck)
    assert warning.symptom == "unresponsive"
    assert "generator-1 is silent" in warning.text and "generator-2 is stuck" in warning.text
    assert "generator-1" not in only(silent, stuck, unresponsive("generator-1", "back")).text
    replaced = Restart(role="generator", member="generator-2", reason="it hung")
    assert symptoms(silent, stuck, unresponsive("generator-1", "back"), replaced) == set()


def test_a_run_in_which_nobody_works_says_so_and_what_each_waits_for() -> None:
    def still(seconds: float) -> Tick:
        idle = {"generator": 0.0, "verifier": 0.0, "learner": 0.0}
        update = {"busy": idle, "tokens_per_second": {}, "waits": {"generator": "weights", "learner": "a full batch"}}
        return tick(seconds).model_copy(update=update)

    training = Phase(seconds=5.0, name="training")
    seconds = thresholds.STANDSTILL_SECONDS
    works = tick(10.0)
    assert symptoms(training, works, still(10.0 + seconds - 1)) == set()
    warning = only(training, works, still(10.0 + seconds - 1), still(10.0 + seconds + 1))
    assert warning.symptom == "standstill"
    assert "generator waits for weights" in warning.text and "learner waits for a full batch" in warning.text
    assert symptoms(training, works, still(10.0 + seconds + 1), tick(13.0 + seconds)) == set()
    assert symptoms(Phase(seconds=5.0, name="starting"), still(100.0)) == set(), "engines may load for minutes"
    assert symptoms(works, Phase(seconds=99.0, name="evaluation"), still(100.0)) == set(), "it has just begun"
    ending = ENDING.model_copy(update={"seconds": 11.0})
    assert symptoms(training, works, ending, still(100.0)) == set(), "nobody is to work while the run winds down"


def test_what_cannot_be_written_is_warned_of_until_it_is_written_again() -> None:
    failed = WriteFailed(what="checkpoints", reason="step-000040: No space left on device")
    (warning,) = warnings(state_of(step(1), failed))
    assert warning.text == "Could not write checkpoints: step-000040: No space left on device."
    assert symptoms(step(1), failed, WriteFailed(what="checkpoints", reason="")) == set()
