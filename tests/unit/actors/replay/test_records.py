"""The state that the journal brings back: a replay that crashes at any moment is as one that never did."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from actors.errors import ProtocolError
from actors.replay import journal as journals
from actors.replay.queues import State
from tests.unit.actors.replay.buffer_world import Sums, payload
from tests.unit.actors.replay.journal_world import LIMITS, Kept, Watched

Say = Callable[[Watched], Any]
WORKERS = st.sampled_from(["a", "b", "c"])
INDEX = st.integers(0, 5)
#: What happens often stands here more than once.
KINDS = st.sampled_from(
    ["verify", "reject", "renew", "committed", "evaluate", "submit", "verdict"]
    + 3 * ["take", "trained"]
    + 3 * ["lease"]
    + 9 * ["advance"]
)


CURRICULUM = replace(LIMITS, curriculum_floor=0.25)


class FewSums(Sums):
    """Three problems, which come again and again."""

    def train(self, index: int) -> Mapping[str, Any]:
        return {**super().train(index), "key": f"t{index % 3}"}


def verdict_of(reward: float) -> dict[str, Any]:
    """One whose reward is the accuracy alone."""
    return {"status": "ok", "reward": reward, "parts": {"accuracy": reward}, "answer": str(reward)}


class Crashes(RuleBasedStateMachine):
    """One world with a journal and its twin without, which are told the same and never crash alike."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.twin = Watched(CURRICULUM, FewSums())
        self.kept = Kept(self.folder, limits=CURRICULUM, tasks=FewSums())
        for world in (self.twin, self.kept):
            self.solve_all(world)
        self.now = 0.0

    def teardown(self) -> None:
        self.kept.journal.close()
        shutil.rmtree(self.folder)

    @staticmethod
    def solve_all(world: Watched) -> None:
        """Every problem is solved once, so that from now on most of their turns are passed over."""
        for task in world.lease(capacity=3):
            world.submit(task)
            world.score([1.0, 1.0])
        world.end_tick()

    def groups(self, *states: State) -> list[tuple[Any, Any]]:
        return [
            (purpose, entry)
            for purpose, ledger in self.twin.buffer.state.ledgers()
            for entry in ledger.entries.values()
            if entry.state in states
        ]

    # -------------------------------------------------------------------- what clients say

    @st.composite
    @staticmethod
    def requests(draw: st.DrawFn, machine: "Crashes") -> Say:
        """Anything that a client may say now."""
        worker, index = draw(WORKERS), draw(INDEX)
        ledger = machine.twin.buffer.ledger
        version = max(0, ledger.version - draw(st.sampled_from([0, 0, 0, 0, 1])))
        kind = draw(KINDS)
        scores = draw(st.sampled_from([(1.0, 0.0), (0.25, 1.0), (1.0, 1.0), None]))
        if kind == "advance" and (unready := machine.groups(State.LEASED, State.GENERATED, State.VERIFYING)):
            kind, index = "submit" if unready[0][1].state is State.LEASED else "verdict", 0
            scores = (1.0, 0.0)
        match kind:
            case "lease":
                body: dict[str, Any] = {"version": version, "capacity": 1 + index}
                return lambda w: w.say("lease", "generator", worker=worker, **body)
            case "submit" if leased := machine.groups(State.LEASED):
                purpose, entry = leased[index % len(leased)]
                body = {"purpose": purpose, "group_id": entry.group_id, "prompt": f"p{index}", "texts": ["a", "b"]}
                arrays = payload(version).arrays()
                return lambda w: w.say("group_arrived", "generator", arrays, worker=worker, **body)
            case "reject" if leased := machine.groups(State.LEASED):
                purpose, entry = leased[index % len(leased)]
                body = {"purpose": purpose, "group_id": entry.group_id, "reason": "overlong", "detail": "too long"}
                return lambda w: w.say("group_rejected", "generator", worker=entry.holder, **body)
            case "verify":
                return lambda w: w.say("lease_verification", "verifier", worker=worker, capacity=1 + index)
            case "verdict" if waiting := machine.groups(State.GENERATED, State.VERIFYING):
                purpose, entry = waiting[index % len(waiting)]
                body = {"purpose": purpose, "group_id": entry.group_id, "retryable": draw(st.booleans())}
                body |= {"scores": scores and [verdict_of(reward) for reward in scores]}
                return lambda w: w.say("verdict", "verifier", worker=worker, detail="broken", **body)
            case "renew" if held := machine.groups(State.LEASED, State.VERIFYING):
                purpose, entry = held[index % len(held)]
                body = {"worker": entry.holder, "purpose": purpose, "group_ids": [entry.group_id]}
                return lambda w: w.say("renew", "generator", **body)
            case "take" if version in ledger.batches or version >= ledger.version:  # others are committed
                return lambda w: w.say("take_batch", "learner", version=version)
            case "trained" if version in ledger.batches:
                body = {"version": version, "statistics": {"loss": 0.5}, "staleness": {0: 6}, "step_seconds": 1.0}
                return lambda w: w.say("trained", "learner", **body)
            case "committed":
                return lambda w: w.say("committed", "learner", version=version)
            case "evaluate":
                body = {"name": f"step {version}", "version": version, "samples": 2, "keep": draw(st.booleans())}
                body |= {"training": draw(st.sampled_from([0, 2])), "provenance": {"seed": 7}}
                return lambda w: w.say("evaluate", "learner", **body)
        return lambda w: w.say("status", "controller")

    # -------------------------------------------------------------------- what happens

    @rule(data=st.data(), requests=st.integers(1, 10))
    def tick(self, data: st.DataObject, requests: int) -> None:
        for _ in range(requests):
            say = data.draw(self.requests(self))
            expected, found = (answer(world, say) for world in (self.twin, self.kept))
            assert found == expected
        self.end_tick()

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 6.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.end_tick()

    @rule(worker=WORKERS)
    def worker_lost(self, worker: str) -> None:
        for world in (self.twin, self.kept):
            world.record(world.buffer.worker_lost(worker))
        self.end_tick()

    def end_tick(self) -> None:
        for world in (self.twin, self.kept):
            world.now = self.now
            world.end_tick()
        self.completions_are_there_once()

    def completions_are_there_once(self) -> None:
        """The files of kept completions are as if nobody had ever crashed, but for what no tick has counted."""
        expected: dict[str, bytes] = {}
        for name, start, content in self.twin.buffer.state.changes.kept:
            expected[name] = expected.get(name, b"")[:start] + content
        assert {path.name: path.read_bytes() for path in self.folder.glob("*.jsonl")} == expected

    @rule(data=st.data(), requests=st.integers(0, 3))
    def crash(self, data: st.DataObject, requests: int) -> None:
        """What was said since the last tick was answered to nobody."""
        for _ in range(requests):
            answer(self.kept, data.draw(self.requests(self)))
        self.kept.crash()
        self.twin.buffer.state.begin_leases(self.now)
        assert unnumbered(self.kept.contents()) == unnumbered(self.twin.contents())

    @precondition(lambda self: self.kept.journal._state_bytes)
    @rule()
    def state_is_due(self) -> None:
        self.kept.journal._call_bytes = 2 * journals.STATE_BYTES


def unnumbered(contents: dict[str, Any]) -> dict[str, Any]:
    """Without the numbers of events, between which a journal leaves gaps."""
    return contents | {"events": [{**event, "number": 0} for event in contents["events"]]}


def answer(world: Watched, say: Say) -> Any:
    """What a client hears, in a form that can be compared."""
    try:
        reply = say(world)
    except ProtocolError as error:
        return str(error)
    arrays = {} if reply is None else reply.pop("arrays")
    return reply, {name: array.tobytes() for name, array in arrays.items()}


Crashes.TestCase.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestCrashes = pytest.mark.timeout(300)(Crashes.TestCase)
