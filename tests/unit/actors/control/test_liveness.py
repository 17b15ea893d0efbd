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
TIMEOUT, HANG, STARTUP, SCORING, UPDATE, ENGINE = 20.0, 60.0, 300.0, 100.0, 50.0, 400.0
ANSWER = 2 * UPDATE
RECIPE = load(
    QUICKSTART,
    [
        f"membership.timeout_seconds={TIMEOUT}",
        f"controller.hang_seconds={HANG}",
        f"controller.startup_seconds={STARTUP}",
        f"replay.verify_lease_seconds={SCORING}",
        f"weights.deadline_seconds={UPDATE}",
        f"generators.startup_seconds={ENGINE}",
    ],
)


class Pool:
    """One process, as the list of members shows it, and a learner that has published a version."""

    def __init__(self, role: str = "generator") -> None:
        self.role, self.name = role, f"{role}-1"
        self.liveness = Liveness(RECIPE)
        self.report: dict[str, Any] = {"ready": True, "version": 0, "uptime_seconds": 1.0}
        self.published: int | None = 0
        self.said: list[str] = []

    def look(self, seconds: float = 1.0, silent: float | None = None, **changes: Any) -> list[str]:
        """After `seconds` of the process's life, of which it was silent for the last `silent`; what is said."""
        self.report |= {"uptime_seconds": self.report["uptime_seconds"] + seconds, **changes}
        own = Seen(self.name, self.role, silent or 0.0, Report(**self.report))
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
    assert pool.look(900.0, busy_seconds=901.0, unanswered_seconds=900.0) == ["back"]
    # its engine stood still with it, and may be asked later than the next report leaves
    assert pool.look(1.0, unanswered_seconds=901.0) == []
    assert pool.liveness.overdue() == {}
    pool.report["unanswered_seconds"] = 0.0
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


def test_an_engine_that_does_not_answer_is_stuck_and_overdue_later() -> None:
    pool = Pool()
    pool.look()
    assert pool.look(ANSWER / 2 - 1, unanswered_seconds=ANSWER / 2 - 1) == []
    assert pool.look(2.0, unanswered_seconds=ANSWER / 2 + 1) == ["stuck"]
    assert pool.liveness.overdue() == {}
    pool.look(ANSWER / 2, unanswered_seconds=ANSWER + 1)
    assert pool.liveness.overdue() == {"generator-1": f"its engine has not answered for {ANSWER + 1:.0f} s"}


def test_an_engine_that_answers_again_is_back() -> None:
    pool = Pool()
    pool.look()
    pool.look(ANSWER + 1, unanswered_seconds=ANSWER + 1)
    assert pool.look(unanswered_seconds=0.5) == ["back"]
    assert pool.liveness.overdue() == {}


@given(st.lists(st.floats(1.0, 1e5), min_size=1, max_size=12))
def test_a_generator_is_never_taken_for_stuck_for_the_length_of_its_completions(pauses: list[float]) -> None:
    pool = Pool()
    pool.look()
    for pause in pauses:
        pool.look(pause, busy_seconds=pool.report.get("busy_seconds", 0.0) + pause, unanswered_seconds=1.0)
    assert pool.said == [] and pool.liveness.overdue() == {}


@pytest.mark.parametrize("role", ["verifier", "scorer"])
def test_one_that_scores_without_an_end_is_stuck(role: str) -> None:
    pool = Pool(role)
    pool.look()
    assert pool.work(SCORING - 2) == []
    assert pool.work(4) == ["stuck"]
    assert pool.liveness.overdue() == {}
    pool.work(SCORING)
    assert "without an end" in pool.liveness.overdue()[f"{role}-1"]


@given(st.lists(st.floats(1.0, SCORING), min_size=1, max_size=12))
def test_a_verifier_that_finishes_groups_within_their_time_is_never_stuck(pauses: list[float]) -> None:
    pool = Pool("verifier")
    pool.look()
    for done, pause in enumerate(pauses, 1):
        pool.work(pause)
        pool.look(0.0, progress=done)
    assert pool.said == [] and pool.liveness.overdue() == {}


@pytest.mark.parametrize("role", ["generator", "verifier", "scorer", "learner"])
def test_an_idle_worker_is_not_stuck(role: str) -> None:
    pool = Pool(role)
    for _ in range(10):
        pool.look(1000.0)
    assert pool.said == []


def test_a_learner_may_work_on_one_step_for_hours() -> None:
    pool = Pool("learner")
    assert pool.work(3600) == []


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
    pool.look()
    pool.look(silent=1000.0)
    pool.liveness.forget("generator-1")
    assert pool.liveness.overdue() == {}
    assert pool.look() == []
