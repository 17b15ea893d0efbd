"""The summary of a run, on synthetic events."""

import json

import pytest

from actors.events import Phase, Recovered, WeightSync
from actors.report.state import RunState
from actors.report.summary import RunSummary, summarise, to_json
from tests.unit.actors.report.example_events import info, learning_run, reward_model, state_of

#: What is known of an evaluation that did not take place.
NOTHING = {
    **dict.fromkeys(
        ["pass_at_1", "pass_at_1_interval", "pass_at_k", "pass_at_k_interval", "maj_at_k", "maj_at_k_interval"]
    ),
    **dict.fromkeys(["k", "n", "format", "language", "mean_length", "missing"]),
    "pass_at": {},
    "by_source": {},
    "left_out": {},
}


def sync(version: int, pause: float) -> WeightSync:
    return WeightSync(
        seconds=version, version=version, members=1, bytes=10, transfer_seconds=1, pause_seconds=pause, total_seconds=2
    )


def test_the_summary_has_exactly_the_documented_keys() -> None:
    data = json.loads(to_json(summarise(RunState(info()))))
    assert data == {
        "recipe": "synthetic",
        "seed": 7,
        "wall_seconds": 0.0,
        "steps": 0,
        "held_out": {
            "before": NOTHING,
            "after": NOTHING,
        },
        "sampling": {
            "evaluation": NOTHING,
            "sampled": None,
            "kept": None,
            "tasks": None,
            "mixed": None,
            "dropped": {},
        },
        "reward_model": {"accuracy": None, "margin": None, "n": None},
        "tokens": {"generated": 0, "trained": 0},
        "tokens_per_second": {"generation": None, "learning": None},
        "staleness": {"max": None, "mean": None, "histogram": {}},
        "busy_share": {"generator": None, "verifier": None, "scorer": None, "learner": None},
        "weight_sync": {"transfer_seconds": None, "pause_seconds": None, "bytes": None},
        "logprob_difference_mean": None,
        "groups": {"issued": 0, "trained": 0, "committed": 0, "dropped": {}, "in_flight": 0},
        "restarts": 0,
        "warnings": [],
        "outcome": "running",
        "reason": None,
        "recoveries": [],
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


def test_the_reward_model_is_summarised() -> None:
    assert summarise(state_of(reward_model(0.9375))).reward_model.model_dump() == {
        "accuracy": 0.9375,
        "margin": 1.5,
        "n": 64,
    }


def test_how_the_run_ended_and_what_it_recovered_from_is_told() -> None:
    state = RunState(info())
    for seconds in (2.0, 8.0, 4.0):
        state.fold(Recovered(role="generator", member="generator-3", fault="died", recovery_seconds=seconds))
    state.fold(Phase(name="failed", detail="the learner gave up: boom"))
    summary = summarise(state)
    assert (summary.outcome, summary.reason) == ("failed", "the learner gave up: boom")
    (found,) = summary.recoveries
    assert (found.role, found.fault, found.count) == ("generator", "died", 3)
    assert (found.median_seconds, found.max_seconds) == (4.0, 8.0)
