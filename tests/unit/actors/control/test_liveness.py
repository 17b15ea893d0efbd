"""Who lives and does not work: what is said of whom, when, and who is never taken for it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.config.loading import load
from actors.control.liveness import Liveness, Seen
from actors.membership import Report

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
TIMEOUT, HANG, STARTUP, LEASE, UPDATE, ENGINE = 20.0, 60.0, 300.0, 100.0, 50.0, 400.0
RECIPE = load(
    QUICKSTART,
    [
        f"membership.timeout_seconds={TIMEOUT}",
        f"controller.hang_seconds={HANG}",
        f"controller.startup_seconds={STARTUP}",
        f"replay.lease_seconds={LEASE}",
        f"weights.deadline_seconds={UPDATE}",
        f"generators.startup_seconds={ENGINE}",
    ],
)


class Pool:
    """One generator, as the list of members shows it, and a learner that has published a version."""

    def __init__(self) -> None:
        self.liveness = Liveness(RECIPE)
        self.report: dict[str, Any] = {"ready": True, "version": 0, "uptime_seconds": 1.0}
        self.published: int | None = 0
        self.said: list[str] = []

    def look(self, seconds: float = 1.0, silent: float | None = None, **changes: Any) -> list[str]:
        """After `seconds` of the generator's life, of which it was silent for the last `silent`; what is said."""
        self.report |= {"uptime_seconds": self.report["uptime_seconds"] + seconds, **changes}
        own = Seen("generator-1", "generator", silent or 0.0, Report(**self.report))
        learner = Seen("learner", "learner", 0.0, Report(ready=True, version=self.published))
        there, away = ([learner], [own]) if silent is not None else ([own, learner], [])
        events = self.liveness.observe(there, away)
        self.said += [event.state for event in events]
        return [event.state for event in events]

    def work(self, seconds: float) -> list[str]:
        """It has work for so many more seconds, and finishes none of it; what is said meanwhile."""
        before = len(self.said)
        for _ in range(round(seconds)):
            self.look(1.0, busy_seconds=self.report.get("busy_seconds", 0.0) + 1.0)
        return self.said[before:]


def test_a_silent_process_is_named_at_once_and_its_time_is_up_later() -> None:
    pool = Pool()
    pool.look()
    assert pool.look(silent=TIMEOUT + 1) == ["silent"]
    assert pool.look(silent=TIMEOUT + HANG - 1) == [], "it is said once"
    assert pool.liveness.overdue() == {}
    pool.look(silent=TIMEOUT + HANG + 1)
    assert "not heard of for 81 s" in pool.liveness.overdue()["generator-1"]


def test_who_is_heard_of_again_is_back_and_its_absence_is_no_stuck_work() -> None:
    pool = Pool()
    pool.look(busy_seconds=1.0)
    pool.look(silent=TIMEOUT + 1)
    # its clocks went on while it stood still
    assert pool.look(10 * LEASE, busy_seconds=1.0 + 10 * LEASE) == ["back"]
    assert pool.work(10) == []
    assert pool.liveness.overdue() == {}


def test_who_has_not_come_up_is_not_taken_for_silent_while_it_loads() -> None:
    pool = Pool()
    pool.look(ready=False, version=None)
    assert pool.look(silent=TIMEOUT + 1) == []
    pool.look(silent=TIMEOUT + HANG + STARTUP - 1)
    assert pool.liveness.overdue() == {}
    pool.look(silent=TIMEOUT + HANG + STARTUP + 1)
    assert "generator-1" in pool.liveness.overdue()


def test_a_worker_that_finishes_nothing_is_stuck_after_a_lease_and_overdue_after_two() -> None:
    pool = Pool()
    pool.look()
    assert pool.work(LEASE - 2) == []
    assert pool.work(4) == ["stuck"]
    assert pool.liveness.overdue() == {}
    pool.work(LEASE)
    assert "finished none" in pool.liveness.overdue()["generator-1"]


@given(st.lists(st.floats(1.0, LEASE), min_size=1, max_size=12))
def test_a_slow_worker_whose_work_counts_is_never_taken_for_stuck(pauses: list[float]) -> None:
    """However long its completions take, as long as they come within the time for which their task is leased."""
    pool, done = Pool(), 0
    pool.look()
    for pause in pauses:
        pool.work(pause)
        done += 8
        pool.look(0.0, progress=done)
    assert pool.said == [] and pool.liveness.overdue() == {}


def test_an_idle_worker_is_not_stuck() -> None:
    pool = Pool()
    for _ in range(10):
        pool.look(LEASE)
    assert pool.said == []


def test_a_stuck_worker_that_gets_on_again_is_back() -> None:
    pool = Pool()
    pool.look()
    pool.work(LEASE + 2)
    assert pool.look(progress=8) == ["back"]


def test_a_generator_that_takes_no_new_weights_is_stuck() -> None:
    """An event loop that is blocked keeps its heartbeat, and may hold no group at all."""
    pool = Pool()
    pool.look()
    pool.published = 1
    assert [pool.look(UPDATE) for _ in range(4)] == [[], [], ["stuck"], []]
    assert pool.liveness.overdue() == {}
    pool.look(UPDATE)
    assert "no new weights" in pool.liveness.overdue()["generator-1"]


def test_a_generator_that_lags_but_takes_newer_weights_is_not_stuck() -> None:
    pool = Pool()
    for version in range(1, 30):
        pool.published = version + 3
        pool.look(UPDATE, version=version)
    assert pool.said == []


@pytest.mark.parametrize(("published", "overdue"), [(None, False), (0, True)])
def test_a_generator_may_wait_for_its_first_weights_as_long_as_there_are_none(
    published: int | None, overdue: bool
) -> None:
    pool = Pool()
    pool.published = published
    for _ in range(7):
        pool.look(ENGINE / 5, ready=False, version=None)
    assert ("generator-1" in pool.liveness.overdue()) == overdue


def test_who_is_forgotten_is_judged_anew() -> None:
    pool = Pool()
    pool.look(ready=True)
    assert pool.liveness.ready("generator-1")
    pool.look(silent=1000.0)
    pool.liveness.forget("generator-1")
    assert not pool.liveness.ready("generator-1") and pool.liveness.overdue() == {}
