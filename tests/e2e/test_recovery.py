"""One run of the real program in which everybody dies once, one after the other."""

import json
import signal
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Run
from tests.e2e.test_run import nothing_left, usable

pytestmark = pytest.mark.e2e

#: Role, and how its process is called. A generator comes last of those that hold weights: it needs the learner's.
VICTIMS = {
    "verifier": "ray::Verifier",
    "replay": "ray::ReplayRole",
    "learner": "ray::Learner",
    "controller": "ray::Controller",
    "generator": "ray::Generator",
}


def test_whoever_dies_is_replaced_and_nothing_that_was_trained_is_lost(start: Callable[..., Run]) -> None:
    # as many steps as it takes: the run is asked to end once everybody has died and recovered
    run = start(steps="100000", seconds=540.0, **{"evaluation.every_steps": "0", "evaluation.samples": "1"})
    run.wait_for_step(2)
    processes = run.processes()
    for role, title in VICTIMS.items():
        run.named(title).kill()
        run.wait_for(
            f"the recovery of the {role}",
            lambda role=role: any(e["kind"] == "recovered" and e["role"] == role for e in run.events()),
        )
    reached = max(e["step"] for e in run.events() if e["kind"] == "step")
    run.wait_for_step(reached + 2)
    processes += run.processes()
    run.kill(signal.SIGINT)
    assert run.end() == 130, run.text()[-3000:]
    assert nothing_left(processes)
    summary = usable(run)
    groups = summary["groups"]
    assert groups["issued"] == groups["in_flight"] + groups["trained"] + groups["committed"] + sum(
        groups["dropped"].values()
    )
    steps = [e["step"] for e in run.events() if e["kind"] == "step"]
    assert set(steps) == set(range(1, summary["steps"] + 1)), "a step is missing in the record"
    assert (run.folder / "checkpoints" / f"step-{summary['steps']:06d}").is_dir(), "a trained step is lost"
    assert summary["staleness"]["max"] <= 4
    assert {found["role"] for found in summary["recoveries"]} >= set(VICTIMS)
    for role in VICTIMS:
        assert f"recovered: {role} works again" in run.text()
    print(json.dumps(summary["recoveries"]))
