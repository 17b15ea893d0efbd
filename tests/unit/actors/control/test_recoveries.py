"""How long it takes until work flows again."""

import pytest

from actors.control.liveness import Seen
from actors.control.recoveries import Recoveries, works
from actors.membership import Report


def test_a_recovery_is_counted_from_when_the_fault_was_seen_and_told_once() -> None:
    recoveries = Recoveries()
    recoveries.seen("generator", "generator-3", "died", 100.0)
    recoveries.replaced("generator-3", "generator-5")
    assert not recoveries.works("generator-3", 101.0)
    (event,) = recoveries.works("generator-5", 107.5)
    assert (event.role, event.member, event.fault, event.recovery_seconds) == ("generator", "generator-3", "died", 7.5)
    assert not recoveries.works("generator-5", 108.0)
    assert recoveries.open(108.0) == []


def test_where_the_successor_dies_too_the_time_goes_on() -> None:
    recoveries = Recoveries()
    recoveries.seen("generator", "generator-3", "died", 100.0)
    recoveries.replaced("generator-3", "generator-5")
    recoveries.seen("generator", "generator-5", "died", 110.0)
    recoveries.replaced("generator-5", "generator-6")
    (fault,) = recoveries.open(115.0)
    assert (fault["member"], fault["seconds"], fault["replaced_by"]) == ("generator-3", 15.0, "generator-6")
    (event,) = recoveries.works("generator-6", 120.0)
    assert event.recovery_seconds == 20.0


def test_who_falls_silent_recovers_by_being_heard_of_and_who_is_killed_for_it_by_its_successor() -> None:
    recoveries = Recoveries()
    recoveries.seen("verifier", "verifier-1", "silent", 0.0)
    assert not recoveries.works("verifier-1", 1.0), "what it said before is no sign of life"
    (event,) = recoveries.back("verifier-1", 30.0)
    assert (event.fault, event.recovery_seconds) == ("silent", 30.0)
    recoveries.seen("verifier", "verifier-1", "silent", 40.0)
    recoveries.seen("verifier", "verifier-1", "hung", 100.0)
    assert not recoveries.back("verifier-1", 101.0)
    recoveries.replaced("verifier-1", "verifier-2")
    (event,) = recoveries.works("verifier-2", 105.0)
    assert (event.fault, event.recovery_seconds) == ("hung", 65.0)


@pytest.mark.parametrize(
    ("role", "report", "expected"),
    [
        ("generator", {"ready": True}, False),
        ("generator", {"ready": True, "version": 0}, True),
        ("verifier", {"ready": False}, False),
        ("verifier", {"ready": True}, True),
        ("learner", {"ready": True, "version": 4}, False),
        ("learner", {"ready": True, "version": 4, "progress": 1}, True),
    ],
)
def test_work_flows_through_a_process(role: str, report: dict[str, object], expected: bool) -> None:
    assert works(Seen(role, role, 0.0, Report(**report))) is expected  # type: ignore[arg-type]
