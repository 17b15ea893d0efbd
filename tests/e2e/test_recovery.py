"""One run of the real program in which everybody dies once, one after the other."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.e2e.conftest import ENDLESS, Run
from tests.e2e.test_run import ends_when_asked, usable

#: A minute and a half on two cores that have nothing else to do.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

#: Role, how its process is called, and what is waited for before the next one dies. A generator's successor takes
#: longest to come up, so that it does that while others die.
VICTIMS = {
    "verifier": ("ray::Verifier", "restart"),
    "generator": ("ray::Generator", "restart"),
    "replay": ("ray::ReplayRole", "recovered"),
    "learner": ("ray::Learner", "recovered"),
    "controller": ("ray::Controller", "recovered"),
}


def test_whoever_dies_is_replaced_and_nothing_that_was_trained_is_lost(start: Callable[..., Run]) -> None:
    # as many steps as it takes: the run is asked to end once everybody has died and recovered
    run = start(steps=ENDLESS, seconds=540.0, **{"evaluation.every_steps": "0", "evaluation.samples": "1"})
    run.wait_for_step(2)
    processes = run.processes()

    for role, (title, kind) in VICTIMS.items():
        run.named(title).kill()
        run.wait_for(f"{kind}: {role}", partial(run.happened, kind, role=role))
    for role in VICTIMS:
        run.wait_for(f"the recovery of the {role}", partial(run.happened, "recovered", role=role))
    ends_when_asked(run, processes)
    summary = usable(run)
    groups = summary["groups"]
    assert groups["issued"] == groups["in_flight"] + groups["trained"] + groups["committed"] + sum(
        groups["dropped"].values()
    )
    steps = [e["step"] for e in run.events() if e["kind"] == "step"]
    assert set(steps) == set(range(1, summary["steps"] + 1)), "a step is missing in the record"
    assert (run.folder / "checkpoints" / f"step-{summary['steps']:06d}").is_dir(), "a trained step is lost"
    assert summary["staleness"]["max"] <= 4
    assert summary["restarts"] >= len(VICTIMS)
    assert {found["role"] for found in summary["recoveries"]} >= set(VICTIMS)
    for role in VICTIMS:
        assert f"recovered: {role} works again" in run.text()
