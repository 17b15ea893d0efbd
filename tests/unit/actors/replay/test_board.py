"""What the run's processes tell each other: who is alive, where services are, what happened."""

from typing import Any

import pytest

from actors.errors import ProtocolError
from actors.events import EVENT, Phase
from actors.membership import Report
from actors.replay import board as boards
from actors.replay import messages as m
from actors.replay.board import Board
from actors.transport.codec import Message, parse


class Room:
    """A board and short words for what its clients say."""

    def __init__(self) -> None:
        self.board = Board(timeout_seconds=20.0)
        self.now = 0.0

    def say(self, kind: str, worker: str = "generator-1", role: str = "generator", **body: Any) -> Any:
        request = parse(Message(kind, 1, {"worker": worker, "role": role, **body}), m.REQUESTS)
        assert isinstance(request, m.BoardRequest)
        self.board.members.heard(worker, role, self.now)
        return self.board.answer(request, self.now)


def test_a_heartbeat_is_answered_with_who_is_alive() -> None:
    room = Room()
    room.say("heartbeat", "verifier-1", "verifier")
    room.now = 15.0
    assert room.say("heartbeat") == {}, "only the learner needs to know"
    listed = {"verifier": ["verifier-1"], "generator": ["generator-1"], "learner": ["learner"]}
    assert room.say("heartbeat", "learner", "learner") == {"alive": listed}
    room.now = 25.0
    room.board.members.expire(room.now)
    assert room.say("heartbeat", "learner", "learner") == {
        "alive": {"generator": ["generator-1"], "learner": ["learner"]}
    }


def test_a_verifier_is_told_of_the_scorers_that_take_requests() -> None:
    room = Room()
    assert room.say("heartbeat", "verifier-1", "verifier") == {}
    room.say("heartbeat", "scorer-1", "scorer", report=Report(ready=True, service="tcp://10.0.0.1:1").model_dump())
    room.now = 15.0
    room.say("heartbeat", "scorer-2", "scorer", report=Report().model_dump())  # it loads its model
    assert room.say("heartbeat", "verifier-1", "verifier") == {"scorers": {"scorer-1": "tcp://10.0.0.1:1"}}
    assert room.say("heartbeat", "generator-1") == {}
    room.now = 25.0
    room.board.members.expire(room.now)
    assert room.say("heartbeat", "verifier-1", "verifier") == {}, "scorer-1 is silent, and scorer-2 not there yet"
    room.say("heartbeat", "scorer-2", "scorer", report=Report(ready=True, service="tcp://10.0.0.2:1").model_dump())
    assert room.say("heartbeat", "verifier-1", "verifier") == {"scorers": {"scorer-2": "tcp://10.0.0.2:1"}}
    room.say("heartbeat", "scorer-2", "scorer", report=Report(ready=True, uptime_seconds=1.0).model_dump())
    assert room.say("heartbeat", "verifier-1", "verifier") == {}, "it leaves"


def test_a_board_that_begins_anew_learns_from_heartbeats_where_services_are() -> None:
    room = Room()
    room.say("heartbeat", "learner", "learner", services={"weights": "tcp://10.0.0.1:1"})
    assert room.say("directory")["services"] == {"weights": "tcp://10.0.0.1:1"}


def test_events_are_told_with_their_numbers() -> None:
    room = Room()
    for name in ("training", "saving"):
        room.board.record(Phase(name=name))
    told = room.say("events", "controller", "controller", after=0)
    assert [event["number"] for event in told["events"]] == [1, 2] and told["last"] == 2


def test_members_and_totals_are_told_for_the_display() -> None:
    room = Room()
    room.say(
        "heartbeat",
        report={
            "version": 3,
            "generated_tokens": 70,
            "busy_seconds": 1.5,
            "uptime_seconds": 3.0,
            "metrics": "[::1]:90",
        },
    )
    room.now = 2.0
    room.say("heartbeat", "generator-2", report={"generated_tokens": 30})
    room.say("remove_member", "controller", "controller", name="generator-2")
    told = room.say("members", "controller", "controller")
    generator, controller = told["members"]
    assert (generator["name"], generator["role"], generator["silent_seconds"]) == ("generator-1", "generator", 2.0)
    assert (generator["report"]["version"], generator["report"]["metrics"]) == (3, "[::1]:90")
    assert controller["role"] == "controller"
    totals = {"uptime_seconds": 3.0, "busy_seconds": 1.5, "generated_tokens": 100, "trained_tokens": 0}
    assert told["totals"]["generator"] == totals
    room.now = 30.0
    room.say("members", "controller", "controller")
    room.board.members.expire(room.now)
    told = room.say("members", "controller", "controller")
    assert [member["name"] for member in told["members"]] == ["controller"]
    assert [(member["name"], member["silent_seconds"]) for member in told["silent"]] == [("generator-1", 30.0)]


def test_a_request_does_not_make_a_member_forget_its_report() -> None:
    room = Room()
    room.say("heartbeat", report={"version": 3})
    room.say("directory")
    room.say("heartbeat")
    assert room.board.members.version("generator-1") == 3


def test_removing_a_member_tells_whether_it_was_there() -> None:
    room = Room()
    room.say("heartbeat")
    assert room.say("remove_member", "controller", "controller", name="generator-1") == {"removed": True}
    assert room.say("remove_member", "controller", "controller", name="generator-1") == {"removed": False}


def test_services_are_found_where_they_were_announced_last() -> None:
    room = Room()
    assert room.say("directory") == {"services": {}}
    room.say("announce", service="weights", address="tcp://a:1")
    room.say("announce", service="weights", address="tcp://a:2")
    assert room.say("directory") == {"services": {"weights": "tcp://a:2"}}


def test_events_are_told_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "EVENTS_KEPT", 3)
    room = Room()
    assert room.say("events", after=0) is None
    for number in range(2):
        room.say("notice", event={"kind": "phase", "name": f"phase {number}"})
    told = room.say("events", after=0)
    expected = [Phase(name="phase 0", number=1), Phase(name="phase 1", number=2)]
    assert [EVENT.validate_python(event) for event in told["events"]] == expected
    assert room.say("events", after=told["last"]) is None
    for number in range(2, 6):
        room.board.record(Phase(name=f"phase {number}"))
    late = room.say("events", after=told["last"])
    assert [event["name"] for event in late["events"]] == ["phase 3", "phase 4", "phase 5"], "the oldest are lost"
    assert late["last"] == 6


def test_an_event_that_is_told_again_because_the_answer_was_lost_counts_once() -> None:
    room = Room()
    phase = {"kind": "phase", "name": "training"}
    failed = {"kind": "write_failed", "what": "checkpoints", "reason": "full"}
    for event in (phase, failed, phase, failed | {"reason": ""}, failed):
        room.say("notice", event=event)
    room.board = Board(20.0, room.board.take_unwritten(), first_event=100)
    room.say("notice", event=failed)
    told = [event.get("reason", event["kind"]) for event in room.say("events", after=0)["events"]]
    assert told == ["phase", "full", "", "full"]


@pytest.mark.parametrize(
    "event",
    [{}, {"kind": "nonsense"}, {"kind": "phase"}, {"kind": "step", "step": -1}, {"kind": "phase", "name": 1}, None],
)
def test_a_malformed_event_is_rejected(event: Any) -> None:
    with pytest.raises(ProtocolError, match="event"):
        Room().say("notice", event=event)


@pytest.mark.parametrize(
    "report", [{"version": -1}, {"busy_seconds": float("nan")}, {"uptime_seconds": float("inf")}, {"more": 1}, 3]
)
def test_a_malformed_report_is_rejected(report: Any) -> None:
    with pytest.raises(ProtocolError, match="report"):
        Room().say("heartbeat", report=report)
