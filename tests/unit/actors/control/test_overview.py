"""What the status page says of a run."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors.control.overview import status, waits
from actors.control.recoveries import Recoveries
from actors.control.since import Since
from actors.events import Phase, Recovered, StepDone, Tick, Unresponsive, WeightSync
from actors.membership import Report
from actors.report.live import live
from actors.report.state import RunInfo, RunState


class Seen:
    """What a controller has heard."""

    def __init__(self) -> None:
        self.recoveries, self.since = Recoveries(), Since()
        self.status: dict[str, Any] = {"queue_ages": {"ready": 42.0}}
        stuck = {"on": "the replay", "what": "a full batch", "seconds": 75.0}
        self.members = [
            member("generator-3", "generator", version=5),
            member("generator-4", "generator", version=3, unanswered_seconds=12.0),
            member("generator-9", "generator", ready=False),
            member("learner", "learner", version=5, waits=[stuck]),
            member("verifier-2", "verifier"),
        ]


def member(name: str, role: str, **report: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "report": Report(**{"ready": True, **report}).model_dump()}


@pytest.fixture
def state() -> RunState:
    info = RunInfo(recipe="r", seed=0, folder=Path("/runs/r"), total_steps=9, max_staleness=2, groups_per_batch=4)
    state = RunState(info)
    for event in (
        Phase(name="training"),
        StepDone(seconds=50, step=5, version=5, statistics={}, staleness={0: 3, 2: 1}, step_seconds=1),
        WeightSync(seconds=52, version=5, members=2, bytes=1, transfer_seconds=1, pause_seconds=0, total_seconds=1.5),
        Tick(seconds=60, interval_seconds=1, queues={"ready": 2}, busy={"learner": 0.0}, waits={"learner": "a batch"}),
        Unresponsive(seconds=60, role="generator", member="generator-1", state="lost", detail="it did not come up"),
        Recovered(seconds=60, role="replay", member="replay", fault="died", recovery_seconds=4.0),
    ):
        state.fold(event)
    return state


def told(state: RunState) -> dict[str, Any]:
    return status(
        state, Seen(), {"generator": 4, "verifier": 1}, {"generator-3", "generator-4", "verifier-2"}, {"verifier-2"}
    )


def test_pools_say_who_is_there_and_who_should_be(state: RunState) -> None:
    generators = told(state)["pools"]["generator"]
    assert (generators["alive"], generators["ready"], generators["wanted"]) == (3, 2, 4)
    assert told(state)["joined"] == ["generator-9"]


def test_every_generator_is_told_with_how_far_it_is_behind(state: RunState) -> None:
    versions = told(state)["versions"]
    assert versions["generator-4"] == {"version": 3, "behind": 2}
    assert versions["generator-9"] == {"version": None, "behind": None}


def test_stuck_calls_name_who_waits_for_whom_longest_first(state: RunState) -> None:
    stuck = [(wait["who"], wait["on"]) for wait in told(state)["stuck"]]
    assert stuck == [("learner", "the replay"), ("generator-4", "its engine")]


def test_the_page_shows_all_of_it(state: RunState) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(live(told(state)))
    text = console.export_text()
    for shown in (
        "step 5 of 9, training",
        "joined\n  generator-9",
        "leaving\n  verifier-2",
        "2 of 4 (+1 coming up)",
        "ready 2 (oldest 42.0 s)",
        "generator-4 3 (-2)",
        "generator-9 none yet",
        "learner waits for the replay: a full batch, for 1 min 15 s",
        "generator-1: it did not come up",
        "replay: replay died, back after 4.0 s",
        "version 5 to 2 generators in 1.5 s, 8.0 s ago",
        "oldest token of the last step 2, bound 2",
    ):
        assert shown in text, f"{shown!r} is missing in\n{text}"


def test_a_wait_is_counted_from_when_it_began() -> None:
    since = Since()
    for now, reasons in ((10.0, {"learner": "a batch"}), (20.0, {"learner": "a batch"})):
        since.observe(reasons, now)
    assert since.seconds("learner", 25.0) == 15.0
    since.observe({"learner": "weights"}, 30.0)
    assert since.seconds("learner", 31.0) == 1.0
    since.observe({}, 40.0)
    assert since.seconds("learner", 41.0) is None


@pytest.mark.parametrize(
    ("busy", "queues", "expected"),
    [
        ({"generator": 0.0, "verifier": 0.9, "learner": 0.9}, {"ready": 3, "generated": 0}, "staleness bound"),
        ({"generator": 0.0, "verifier": 0.9, "learner": 0.9}, {"ready": 0, "generated": 0}, "weights or tasks"),
        ({"generator": 0.9, "verifier": 0.0, "learner": 0.9}, {"ready": 0, "generated": 0}, "completions"),
        (
            {"generator": 0.9, "verifier": 0.9, "scorer": 0.0, "learner": 0.9},
            {"ready": 0, "generated": 0},
            "groups of verifiers",
        ),
        ({"generator": 0.9, "verifier": 0.9, "learner": 0.0}, {"ready": 0, "generated": 0}, "a full batch"),
    ],
)
def test_an_idle_pool_says_what_it_waits_for(busy: dict[str, float], queues: dict[str, int], expected: str) -> None:
    (reason,) = waits(busy, queues).values()
    assert expected in reason
