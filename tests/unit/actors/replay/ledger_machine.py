"""The ledger as hypothesis explores it: anybody may do anything in any order, and the process may die at every step."""

import json
from collections import Counter
from dataclasses import replace
from operator import attrgetter
from typing import Any, ClassVar

import msgpack
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.replay.ledger import Ledger
from actors.replay.limits import REISSUED, Reason, ReplayLimits
from actors.replay.queues import UNREADY, Entry, State
from actors.replay.rewards import band

#: Of an epoch of the tasks' stream.
PROBLEMS = 2
WORKERS = st.sampled_from(["g1", "g2", "v1", "v2"])


class LedgerMachine(RuleBasedStateMachine):
    """A learner, generators that hold any version up to the learner's, verifiers, deaths and time.

    Beside the ledger lives a twin: it gets the calls that changed the ledger, as a journal holds them, and must equal
    it in every field after every step. `steps` counts what was done in all runs, by its name.
    """

    steps: ClassVar[Counter[str]] = Counter()

    @initialize(
        staleness=st.integers(0, 3),
        batch=st.integers(1, 4),
        drop=st.booleans(),
        attempts=st.integers(1, 3),
        losses=st.integers(1, 3),
        tasks=st.sampled_from([None, None, 8]),
        stragglers=st.sampled_from(["drop", "wait", "mask"]),
        floor=st.sampled_from([1.0, 0.1]),
        honest=st.booleans(),
    )
    def begin(self, honest: bool, **drawn: Any) -> None:
        self.limits = ReplayLimits(
            max_staleness=drawn["staleness"],
            groups_per_batch=drawn["batch"],
            drop_zero_variance=drawn["drop"],
            lease_seconds=10,
            verify_lease_seconds=5,
            verify_attempts=drawn["attempts"],
            generation_attempts=drawn["losses"],
            tasks=drawn["tasks"],
            stragglers=drawn["stragglers"],
            curriculum_floor=drawn["floor"],
        )
        self.honest = honest  # no token is older than the weights that the generator said it held
        self.now = 0.0
        self.delivered: dict[int, list[int]] = {}
        self.trained_group_ids: set[int] = set()
        self.trained_tasks: set[int] = set()
        self.first_version = self.settled = 0
        self.snapshot: dict[str, Any] | None = None
        self.begin_history()

    # ---------------------------------------------------------------- calls, and crashes

    def begin_history(self) -> None:
        self.ledger, self.twin = self.beginning(), self.beginning()
        self.calls: list[bytes] = []

    def beginning(self) -> Ledger:
        return Ledger.resume(self.limits, self.snapshot) if self.snapshot else Ledger(self.limits)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call the ledger, or its tasks, and the twin if the call may have changed anything."""
        self.steps[method] += 1
        result = attrgetter(method)(self.ledger)(*arguments)
        if result is not False and result != []:
            self.calls.append(msgpack.packb([method, arguments]))
            play(self.twin, self.calls[-1])
        return result

    @rule()
    def the_process_dies_and_its_calls_are_carried_out_again(self) -> None:
        self.steps["crash"] += 1
        again = self.beginning()
        for call in self.calls:
            play(again, call)
        require_equal(again, self.ledger)
        self.ledger = again
        self.call("renew_all", self.now)

    @rule()
    def the_process_dies_and_its_state_is_read_again(self) -> None:
        self.steps["crash"] += 1
        state = msgpack.unpackb(msgpack.packb(self.ledger.state()), strict_map_key=False)
        again = Ledger.restored(self.limits, state)
        require_equal(again, self.ledger)
        self.ledger = again

    @invariant()
    def the_calls_alone_make_the_same_ledger(self) -> None:
        if hasattr(self, "ledger"):
            require_equal(self.twin, self.ledger)

    # ---------------------------------------------------------------- generators and verifiers

    def some(self, data: st.DataObject, *states: State) -> int | None:
        found = [e.group_id for e in self.ledger.entries.values() if e.state in states]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(worker=WORKERS, behind=st.integers(0, 4), capacity=st.integers(1, 20), continued=st.booleans())
    def lease(self, worker: str, behind: int, capacity: int, continued: bool) -> None:
        version = max(self.first_version, self.ledger.version - behind)
        there_are = self.ledger.to_lease(version)
        entries = self.lease_training(worker, version, capacity)
        assert len(entries) <= min(capacity, there_are)
        assert entries or not self.ledger.to_lease(version) or worker in self.ledger.tasks.examined
        for entry in entries:
            # trained in the order of issue, the group would still be young enough
            position = self.ledger.issued - self.settled - self.ledger.dropped.total()
            batches = self.limits.max_staleness + version - self.first_version + 1
            assert position <= batches * self.limits.groups_per_batch
            assert entry.state is State.LEASED
            if continued:
                self.call("begin_at", entry.group_id, self.ledger.oldest_allowed(entry.group_id))

    def lease_training(self, worker: str, version: int, capacity: int) -> list[Entry]:
        """As the replay does it, see `ReplayState.lease_training`."""
        if not self.ledger.tasks.curriculum.is_on:
            return list(self.call("lease", worker, version, capacity, self.now))
        entries = list[Entry]()
        for _ in range(min(capacity, self.ledger.to_lease(version))):
            self.come_to_a_task_that_is_due(worker)
            entries += self.call("lease", worker, version, 1, self.now)
        return entries

    def come_to_a_task_that_is_due(self, worker: str) -> None:
        tasks, passed = self.ledger.tasks, 0
        while (number := tasks.upcoming(worker)) is not None and not tasks.is_due(key_of(number)):
            self.call("tasks.pass_over", key_of(number))
            passed += 1
            assert passed < PROBLEMS * 10, "each of the problems is due at every tenth turn at least"
        if number is not None:
            self.call("tasks.draw", key_of(number))

    @rule(data=st.data(), behind=st.integers(0, 4), spread=st.integers(0, 2))
    def group_arrives(self, data: st.DataObject, behind: int, spread: int) -> None:
        group_id = self.some(data, *State)
        if group_id is not None:
            entry = self.ledger.entries[group_id]
            oldest = max(entry.oldest if self.honest else 0, self.ledger.version - behind)
            leased = entry.state is State.LEASED
            assert self.call("group_arrived", group_id, oldest, oldest + spread) is leased

    @rule(worker=WORKERS)
    def leases_are_renewed(self, worker: str) -> None:
        self.call("renew", worker, list(self.ledger.entries), self.now)
        held = [e for e in self.ledger.entries.values() if e.holder == worker]
        assert all(e.deadline == self.now + (10 if e.state is State.LEASED else 5) for e in held)

    @rule(worker=WORKERS, capacity=st.integers(1, 8))
    def verification_is_leased(self, worker: str, capacity: int) -> None:
        there_are = self.ledger.counts()[State.GENERATED]
        taken = self.call("lease_verification", worker, capacity, self.now)
        assert len({e.group_id for e in taken}) == len(taken) == min(capacity, there_are)

    @rule(
        data=st.data(),
        rewards=st.one_of(st.none(), st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=4)),
        retryable=st.booleans(),
    )
    def verdict(self, data: st.DataObject, rewards: list[float] | None, retryable: bool) -> None:
        group_id = self.some(data, *State)
        if group_id is not None:
            task = self.ledger.entries[group_id].task
            if self.call("verdict", group_id, rewards, retryable) and rewards is not None:
                self.call("tasks.verified", key_of(task), sum(rewards) / len(rewards))

    @rule(data=st.data(), reason=st.sampled_from(["overlong", "malformed"]))
    def group_is_rejected(self, data: st.DataObject, reason: str) -> None:
        group_id = self.some(data, *UNREADY, State.READY)
        if group_id is not None:
            self.call("drop", group_id, reason)

    @rule()
    def drops_are_told(self) -> None:
        assert len(self.call("take_dropped")) <= self.ledger.dropped.total()
        assert self.ledger.newly_dropped == []

    # ---------------------------------------------------------------- the learner

    @rule()
    def batch_is_taken(self) -> None:
        version, stale = self.ledger.version, self.ledger.dropped[Reason.STALE]
        worth_asking = self.ledger.to_take(version)
        batch = self.call("take_batch", version)
        assert worth_asking or (batch is None and stale == self.ledger.dropped[Reason.STALE])
        if batch is None:
            return
        group_ids = [e.group_id for e in batch]
        assert len(group_ids) == self.limits.groups_per_batch
        youngest = [e.newest if self.limits.stragglers == "mask" else e.oldest for e in batch]
        assert all(version - decisive <= self.limits.max_staleness for decisive in youngest)
        assert self.delivered.setdefault(version, group_ids) == group_ids, "a batch that was delivered has changed"

    @precondition(lambda self: self.ledger.version in self.ledger.batches)
    @rule()
    def batch_is_trained(self) -> None:
        version = self.ledger.version
        group_ids = set(self.ledger.batches[version])
        assert not group_ids & self.trained_group_ids, "a group was trained in two batches"
        self.trained_group_ids |= group_ids
        tasks = {self.ledger.entries[group_id].task for group_id in group_ids}
        assert not tasks & self.trained_tasks, "a task that a checkpoint covers was trained again"
        self.trained_tasks |= tasks
        self.call("trained", version)

    @rule()
    def checkpoint(self) -> None:
        before = self.ledger.committed
        covered = self.call("commit", self.ledger.version)
        assert self.ledger.committed == before + len(covered)

    @rule(back=st.integers(0, 3))
    def learner_restarts_and_asks_again(self, back: int) -> None:
        version = self.ledger.version - back
        if version in self.ledger.batches:
            batch = self.call("take_batch", version)
            assert [e.group_id for e in batch] == self.delivered[version]

    @rule(lost=st.booleans())
    def the_learner_gets_a_batch_once_everybody_has_done_what_they_can(self, lost: bool) -> None:
        """Whatever has happened, nobody waits for ever: neither for stragglers nor for room."""
        version = self.ledger.version
        if lost:
            for worker in ("g1", "g2", "v1", "v2"):
                self.call("worker_lost", worker)
        while self.call("take_batch", version) is None:
            self.lease_training("g3", version, 1000)
            unready = [e for e in self.ledger.entries.values() if e.state in UNREADY]
            if not unready and self.limits.tasks is not None:
                return  # there is no task any more
            assert unready, "the learner waits for ever"
            for entry in unready:
                self.call("group_arrived", entry.group_id, max(entry.oldest, version), version)
                self.call("verdict", entry.group_id, [0.0, 1.0])
                self.call("tasks.verified", key_of(entry.task), 1.0)
        self.delivered.setdefault(version, self.ledger.batches[version])
        if not self.trained_group_ids & set(self.ledger.batches[version]):
            self.batch_is_trained()

    # ---------------------------------------------------------------- time and death

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.call("expire", self.now)
        assert all(e.deadline > self.now for e in self.ledger.entries.values() if e.holder)

    @rule(worker=WORKERS)
    def worker_dies(self, worker: str) -> None:
        self.call("worker_lost", worker)
        assert all(e.holder != worker for e in self.ledger.entries.values())

    @rule(worker=WORKERS)
    def worker_leaves(self, worker: str) -> None:
        attempts = {e.group_id: e.attempts for e in self.ledger.groups.held_by(worker) if e.state is State.VERIFYING}
        self.call("worker_left", worker)
        assert all(e.holder != worker for e in self.ledger.entries.values())
        assert all(self.ledger.entries[g].attempts == before - 1 for g, before in attempts.items())

    @rule(data=st.data())
    def group_grows(self, data: st.DataObject) -> None:
        group_id = self.some(data, State.LEASED)
        if group_id is not None:
            self.call("progressed", group_id, self.now)
            assert not self.ledger.tasks.losses[self.ledger.entries[group_id].task]

    @rule(batch=st.integers(1, 4), staleness=st.integers(0, 3))
    def everything_restarts_from_a_checkpoint_with_other_limits(self, batch: int, staleness: int) -> None:
        version = self.ledger.version
        self.snapshot = json.loads(json.dumps(self.ledger.snapshot(version)))
        known = set(range(self.ledger.tasks.cursor))
        unfinished = {e.task for e in self.ledger.entries.values() if e.state is not State.TRAINED}
        done = self.ledger.committed + sum(e.state is State.TRAINED for e in self.ledger.entries.values())
        assert known - unfinished - set(self.ledger.tasks.to_reissue()) >= self.trained_tasks
        self.limits = replace(self.limits, groups_per_batch=batch, max_staleness=staleness)
        curriculum, passed_over = self.ledger.tasks.curriculum, self.ledger.tasks.passed_over
        self.begin_history()
        assert self.ledger.tasks.curriculum == curriculum
        assert self.ledger.tasks.passed_over == passed_over
        assert unfinished <= set(self.ledger.tasks.to_reissue())
        assert self.ledger.committed == done
        assert self.ledger.capacity(version) == Ledger(self.limits).capacity(0)
        self.first_version, self.settled = version, done
        self.delivered.clear()
        self.trained_group_ids.clear()  # the numbers of what was lost are given again

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "ledger"):
            assert self.ledger.conserved()
            assert self.ledger.issued == sum(self.ledger.counts().values()) + self.ledger.committed + sum(
                self.ledger.dropped.values()
            )

    @invariant()
    def the_queues_hold_what_there_is(self) -> None:
        if hasattr(self, "ledger"):
            groups, entries = self.ledger.groups, self.ledger.entries.values()
            for state, queue in groups.states.items():
                assert set(queue) == {e.group_id for e in entries if e.state is state}
            for state in (State.LEASED, State.VERIFYING):
                deadlines = [e.deadline for e in groups.states[state].values()]
                assert deadlines == sorted(deadlines)
            assert {g for held in groups.held.values() for g in held} == {e.group_id for e in entries if e.holder}
            assert sorted(g for *_, g in self.ledger.ready) == sorted(groups.states[State.READY])
            assert groups.unready == Counter(e.oldest for e in entries if e.state in UNREADY)
            assert groups.ready == Counter(e.oldest for e in entries if e.state is State.READY)

    @invariant()
    def a_task_is_never_in_two_places(self) -> None:
        if hasattr(self, "ledger"):
            tasks = [e.task for e in self.ledger.entries.values()] + self.ledger.tasks.to_reissue()
            assert len(tasks) == len(set(tasks))

    @invariant()
    def no_task_is_lost_for_ever(self) -> None:
        if hasattr(self, "ledger"):
            losses, last = self.ledger.tasks.losses, self.limits.generation_attempts - 1
            assert all(lost <= last for lost in losses.values())
            assert set(losses) <= {e.task for e in self.ledger.entries.values()} | set(self.ledger.tasks.to_reissue())
            leased = self.ledger.groups.states[State.LEASED].values()
            holders = [e.holder for e in leased if 0 < losses[e.task] == last]
            assert len(holders) == len(set(holders)), "a generator holds two tasks on their last attempt"

    @invariant()
    def a_task_that_is_passed_over_is_not_forgotten(self) -> None:
        if hasattr(self, "ledger"):
            tasks, curriculum = self.ledger.tasks, self.ledger.tasks.curriculum
            begun = self.ledger.issued - sum(self.ledger.dropped[reason] for reason in REISSUED)
            assert tasks.cursor == begun + len(tasks.to_reissue()) + tasks.passed_over.total()
            assert curriculum.bands == Counter(band(each.solve_rate) for each in curriculum.standings.values())
            assert all(0 <= each.credit < 1 for each in curriculum.standings.values())

    @invariant()
    def the_bound_on_admission_holds(self) -> None:
        if hasattr(self, "ledger"):
            outstanding = self.ledger.issued - self.settled - self.ledger.dropped.total()
            batches = self.limits.max_staleness + self.ledger.version - self.first_version + 1
            assert outstanding <= batches * self.limits.groups_per_batch

    @invariant()
    def who_waits_for_stragglers_drops_nothing_for_its_age(self) -> None:
        if hasattr(self, "ledger") and self.limits.stragglers == "wait" and self.honest:
            assert not self.ledger.dropped[Reason.STALE]


def play(ledger: Ledger, call: bytes) -> None:
    """Carry out a call as a journal holds it."""
    method, arguments = msgpack.unpackb(call)
    attrgetter(method)(ledger)(*arguments)


def key_of(task: int) -> str:
    """The key of a task's problem."""
    return f"t{task % PROBLEMS}"


def require_equal(one: Ledger, other: Ledger) -> None:
    """Equal in every field, and in the order of what has one."""
    assert one == other
    assert list(one.entries) == list(other.entries) == sorted(one.entries)
