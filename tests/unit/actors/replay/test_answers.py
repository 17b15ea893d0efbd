"""A request that is sent again changes nothing twice and gets the answer of the first, also of a replay that died."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.replay import answers
from actors.replay.answers import Answers
from actors.replay.buffer import Buffer
from actors.replay.changes import Accepted, Call, Key
from actors.replay.messages import CompletionVerdict
from actors.replay.queues import State
from actors.replay.records import Past
from actors.transport.client import Client
from tests.unit.actors.replay.buffer_world import World, payload
from tests.unit.actors.replay.journal_world import Kept, Watched, plain
from tests.unit.actors.replay.test_clients import FakeShard
from tests.unit.actors.replay.test_partials import part, report


def numbered(number: int, settled: int = 0, client: str = "c") -> dict[str, Any]:
    return {"client": client, "number": number, "settled": settled}


def leases_of(reply: Mapping[str, Any] | None) -> list[tuple[str, int]]:
    found = [*reply.get("tasks", ()), *reply.get("groups", ())] if reply else []
    return [(one["purpose"], one["group_id"]) for one in found]


def groups_of(reply: Mapping[str, Any] | None) -> list[int]:
    return [group_id for _, group_id in leases_of(reply)]


# -------------------------------------------------------------------- what is remembered


def test_answers_below_what_is_settled_are_forgotten_of_that_client_alone() -> None:
    found = Answers()
    for number in (1, 2, 3):
        found.given("w", "a", number, 2 if number == 3 else 0, "Lease", number)
    found.given("w", "b", 1, 9, "Lease", "b")
    assert [found.again("w", "a", number, "Lease") for number in (1, 2, 3)] == [None, 2, 3]
    assert found.again("w", "b", 1, "Lease") == "b"
    assert found.again("w", "b", 1, "Evaluate") is None, "another request under the number of an earlier one"
    assert Answers.restored(found.state()) == found
    assert found.forget("w") and not found.forget("w") and found == Answers()


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_ANSWERS", 2)
    monkeypatch.setattr(answers, "MOST_WORKERS", 2)
    found = Answers()
    for worker in ("old", "other", "new"):
        for number in range(4):
            found.given(worker, "c", number, 0, "Lease", number)
    assert set(found.state()) == {"other", "new"}
    assert [asked[1] for asked in found.state()["new"]] == [2, 3]


# -------------------------------------------------------------------- what is told again


def test_a_lease_that_is_asked_for_again_is_the_same_and_whatever_of_it_is_over_is_left_out() -> None:
    world = World(max_staleness=3)
    first = world.say("lease", "generator", version=0, capacity=2, **numbered(1))
    issued = world.buffer.ledger.issued
    again = world.say("lease", "generator", version=0, capacity=2, **numbered(1))
    assert again == first and world.buffer.ledger.issued == issued == 2
    world.submit(first["tasks"][0])
    again = world.say("lease", "generator", version=0, capacity=2, **numbered(1))
    assert groups_of(again) == groups_of(first)[1:]
    world.submit(first["tasks"][1])
    fresh = world.say("lease", "generator", version=0, capacity=1, **numbered(1))
    assert fresh["tasks"] and not set(groups_of(fresh)) & set(groups_of(first)), "all that it was given is over"


def test_a_lease_is_told_again_with_what_was_sampled_before() -> None:
    world = World()
    report(world, world.lease()[0], [part(4), part(2)])
    world.buffer.worker_lost("generator")
    first = world.say("lease", "generator", version=0, capacity=1, worker="other", **numbered(1))
    again = world.say("lease", "generator", version=0, capacity=1, worker="other", **numbered(1))
    assert first["arrays"].keys() == again["arrays"].keys() and first["arrays"]
    assert all((first["arrays"][name] == again["arrays"][name]).all() for name in first["arrays"])


def test_who_was_lost_in_between_gets_new_leases() -> None:
    world = World()
    first = world.say("lease", "generator", version=0, capacity=1, **numbered(1))
    world.buffer.worker_lost("generator")
    again = world.say("lease", "generator", version=0, capacity=1, **numbered(1))
    assert groups_of(again) != groups_of(first)
    assert not world.buffer.state.answers.again("generator", "c", 2, "Lease")


def test_a_verdict_that_broke_is_no_second_attempt_when_it_comes_again() -> None:
    world = World(verify_attempts=2)
    world.submit(world.lease()[0])
    (group,) = world.say("lease_verification", "verifier", capacity=1, **numbered(1))["groups"]
    lease = {"purpose": "train", "group_id": group["group_id"]}
    world.say("verdict", "verifier", **lease, scores=None, **numbered(2))
    (entry,) = world.buffer.ledger.entries.values()
    world.say("lease_verification", "verifier", capacity=1, worker="other")
    assert world.say("verdict", "verifier", **lease, scores=None, **numbered(2))["accepted"]
    assert (entry.state, entry.holder) == (State.VERIFYING, "other"), "the other one's lease goes on"


def test_an_evaluation_without_a_result_is_asked_for_again_by_another_request_alone() -> None:
    world = World()
    asked = {"name": "before", "version": 0, "samples": 1}
    number = world.say("evaluate", "learner", **asked, **numbered(1))["evaluation"]
    for task in world.lease(capacity=3):
        world.reject(task, "malformed")
    assert "missing" in world.say("evaluation_result", "learner", evaluation=number)
    assert world.say("evaluate", "learner", **asked, **numbered(1))["evaluation"] == number
    assert world.say("evaluate", "learner", **asked, **numbered(2, 2))["evaluation"] == number + 1


def test_a_replay_that_died_before_it_answered_gives_the_answer_once_it_is_back(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    first = world.say("lease", "generator", version=0, capacity=2, **numbered(1))
    world.end_tick()
    world.crash()
    again = world.say("lease", "generator", version=0, capacity=2, **numbered(1))
    assert again == first and world.buffer.ledger.issued == 2
    task = first["tasks"][0]
    body = {"purpose": "train", "group_id": task["group_id"], "prompt": "p", "texts": ["a", "b"]}
    assert world.say("group_arrived", "generator", payload().arrays(), **body, **numbered(2, 2))["accepted"]
    world.end_tick()
    world.crash()
    assert world.say("group_arrived", "generator", payload().arrays(), **body, **numbered(2, 2))["accepted"]
    assert world.last.submitted is None, "it is counted once"
    later = world.say("lease", "generator", version=0, capacity=1, **numbered(1))
    assert not set(groups_of(later)) & set(groups_of(first)), "what is settled is forgotten"


# -------------------------------------------------------------------- the client


@pytest.fixture
def shard() -> Iterator[FakeShard]:
    made = FakeShard(0)
    yield made
    made.close()


def test_a_poll_that_was_given_up_goes_on_under_its_number(shard: FakeShard) -> None:
    shard.answer = lambda kind: None if kind == "lease" else {}
    with closing(Client(shard.endpoint, "g", "generator", 5.0, once=True)) as client:
        client._answer_seconds = 0.2
        assert client.poll("lease", {"version": 0, "capacity": 1}, 0.0) is None
        client.request("renew", {})
        shard.answer = lambda _: {"tasks": [1]}
        assert client.poll("lease", {"version": 0, "capacity": 2}, 0.0) is not None
        assert client.poll("lease", {"version": 0, "capacity": 3}, 0.0) is not None
    told = [(kind, number, body["settled"]) for (kind, body), number in zip(shard.asked, shard.numbers, strict=True)]
    assert told == [("lease", 1, 1), ("renew", 2, 1), ("lease", 1, 1), ("lease", 3, 3)]
    assert len({body["client"] for _, body in shard.asked}) == 1


def test_a_request_that_a_full_disk_holds_up_keeps_its_number(
    shard: FakeShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.transport.client.BUSY_SECONDS", 0.01)
    shard.kinds_of_reply = ["busy", "busy"]
    with closing(Client(shard.endpoint, "g", "generator", 5.0)) as client:
        client.request("group_arrived", {})
        client.request("group_arrived", {})
    assert shard.numbers == [1, 1, 1, 2]


# -------------------------------------------------------------------- in any order, with a crash at every step


class InMemory(Watched):
    """A replay whose journal is in memory. `crash` loses what no `flush` has made durable, and comes up again."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = plain(self.buffer.state.state())
        self.calls: list[Call] = []
        self.accepted: dict[Key, Accepted] = {}
        self.scores: dict[Key, tuple[CompletionVerdict, ...]] = {}

    def flush(self) -> None:
        changes = self.buffer.state.take_changes()
        self.calls += plain(changes.calls)
        self.accepted |= changes.accepted
        self.scores |= changes.scores

    def crash(self) -> None:
        calls = [(target, method, list(given), named) for target, method, given, named in plain(self.calls)]
        past = Past(self.limits, plain(self.begun), calls, self.accepted.__getitem__, self.scores.__getitem__)
        self.buffer = Buffer(self.limits, 2, self.tasks, past=past, now=self.now)
        self.calls += plain(self.buffer.state.take_changes().calls)


WORKERS = {"g1": "generator", "g2": "generator", "v1": "verifier", "v2": "verifier", "l": "learner"}
FATES = st.sampled_from(["answered", "answered", "lost", "dies before its journal has it", "dies before it answers"])


@dataclass
class Asking:
    """A worker's one client, and its request that has no answer yet.

    Attributes:
        told: purpose and group_id of what it knows it holds.
        first: what a tick has made durable of the answer, if one has.
    """

    role: str
    number: int = 0
    pending: tuple[str, dict[str, Any]] | None = None
    first: Any = None
    told: list[tuple[str, int]] = field(default_factory=list)


class RepeatsMachine(RuleBasedStateMachine):
    """Workers whose requests are answered, or lose their answers, of a replay that dies before or after a commit."""

    @initialize()
    def begin(self) -> None:
        self.world = InMemory()
        self.asking = {worker: Asking(role) for worker, role in WORKERS.items()}

    def state(self) -> Any:
        state = self.world.buffer.state.state()
        return plain({name: part for name, part in state.items() if name != "answers"})

    @rule(worker=st.sampled_from([*WORKERS]), fate=FATES, choice=st.integers(0, 9))
    def asks(self, worker: str, fate: str, choice: int) -> None:
        asking = self.asking[worker]
        if asking.pending is None:
            asking.number, asking.first = asking.number + 1, None
            asking.pending = self.request_of(asking, choice)
        self.send(worker, fate)

    def request_of(self, asking: Asking, choice: int) -> tuple[str, dict[str, Any]]:
        if asking.role == "learner":
            if choice % 2 and self.world.buffer.ledger.version:
                return "committed", {"version": self.world.buffer.ledger.version}
            return "evaluate", {"name": f"e{choice}", "version": 0, "samples": 2}
        if not asking.told or choice > 6:
            version = {"version": 0} if asking.role == "generator" else {}
            return ("lease" if version else "lease_verification"), version | {"capacity": 1 + choice % 3}
        purpose, group_id = asking.told[choice % len(asking.told)]
        lease = {"purpose": purpose, "group_id": group_id}
        if asking.role == "verifier":
            score = {"status": "ok", "reward": float(choice % 2)}
            return "verdict", lease | {"scores": [score, {"status": "ok", "reward": 1.0}] if choice < 5 else None}
        if choice == 0:
            return "group_rejected", lease | {"reason": "malformed"}
        return "group_arrived", lease | {"prompt": "p", "texts": ["a", "b"]}

    def send(self, worker: str, fate: str) -> None:
        asking = self.asking[worker]
        assert asking.pending is not None
        kind, body = asking.pending
        arrays = payload().arrays() if kind == "group_arrived" else None
        before, durable = self.state(), asking.first
        sender = {"worker": worker, **numbered(asking.number, asking.number, client=worker)}
        reply = self.world.say(kind, asking.role, arrays, **body, **sender)
        if durable:
            assert reply == durable, "another answer than that of the first"
            assert self.state() == before, "it has changed something twice"
        if fate == "dies before its journal has it":
            self.world.crash()
            return
        self.world.flush()
        asking.first = reply
        if fate == "dies before it answers":
            self.world.crash()
        elif fate == "answered":
            self.answered(asking, kind, body, reply)

    def answered(self, asking: Asking, kind: str, body: Mapping[str, Any], reply: Any) -> None:
        asking.pending = None
        if kind in ("lease", "lease_verification"):
            asking.told += leases_of(reply)
        elif "group_id" in body:
            assert reply["accepted"], "nobody has revoked the lease"
            asking.told.remove((body["purpose"], body["group_id"]))

    @rule(worker=st.sampled_from([*WORKERS]))
    def is_lost(self, worker: str) -> None:
        self.world.buffer.worker_lost(worker)
        self.world.flush()
        self.asking[worker] = Asking(self.asking[worker].role, self.asking[worker].number + 1)

    @rule()
    def trains(self) -> None:
        if self.world.buffer.ledger.to_take(version := self.world.buffer.ledger.version):
            self.world.train(version)
            self.world.flush()

    @invariant()
    def nobody_holds_what_nobody_will_tell_it(self) -> None:
        if not hasattr(self, "world"):
            return
        for worker, asking in self.asking.items():
            ledgers = self.world.buffer.state.ledgers()
            held = {(p, e.group_id) for p, ledger in ledgers for e in ledger.entries.values() if e.holder == worker}
            assert held <= {*asking.told, *(leases_of(asking.first) if asking.pending else ())}
        assert self.world.buffer.ledger.conserved()


TestRepeats = RepeatsMachine.TestCase
TestRepeats.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
