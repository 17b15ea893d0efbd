"""The ledger keeps its promises whatever happens in whatever order."""

import json
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.replay.ledger import Ledger, Reason, ReplayLimits
from actors.replay.queues import State

WORKERS = st.sampled_from(["g1", "g2", "v1", "v2"])


class LedgerMachine(RuleBasedStateMachine):
    """A learner, generators that hold any version up to the learner's, verifiers, deaths and time."""

    @initialize(
        staleness=st.integers(0, 3),
        batch=st.integers(1, 4),
        drop=st.booleans(),
        attempts=st.integers(1, 3),
        losses=st.integers(1, 3),
        tasks=st.sampled_from([None, 8]),
    )
    def begin(self, staleness: int, batch: int, drop: bool, attempts: int, losses: int, tasks: int | None) -> None:
        self.limits = ReplayLimits(
            staleness,
            batch,
            drop,
            lease_seconds=10,
            verify_lease_seconds=5,
            verify_attempts=attempts,
            generation_attempts=losses,
            tasks=tasks,
        )
        self.ledger = Ledger(self.limits)
        self.now = 0.0
        self.delivered: dict[int, list[int]] = {}
        self.trained_group_ids: set[int] = set()
        self.trained_tasks: set[int] = set()
        self.first_version = self.settled = 0

    def some(self, data: st.DataObject, *states: State) -> int | None:
        found = [e.group_id for e in self.ledger.entries.values() if e.state in states]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(worker=WORKERS, behind=st.integers(0, 4), capacity=st.integers(1, 20))
    def lease(self, worker: str, behind: int, capacity: int) -> None:
        version = max(self.first_version, self.ledger.version - behind)
        for entry in self.ledger.lease(worker, version, capacity, self.now):
            # trained in the order of issue, the group would still be young enough
            position = self.ledger.issued - self.settled - self.ledger.dropped.total()
            batches = self.limits.max_staleness + version - self.first_version + 1
            assert position <= batches * self.limits.groups_per_batch
            assert entry.state is State.LEASED

    @rule(data=st.data(), behind=st.integers(0, 4), spread=st.integers(0, 2))
    def group_arrives(self, data: st.DataObject, behind: int, spread: int) -> None:
        group_id = self.some(data, *State)
        if group_id is not None:
            oldest = max(0, self.ledger.version - behind)
            leased = self.ledger.entries[group_id].state is State.LEASED
            assert self.ledger.group_arrived(group_id, oldest, oldest + spread) is leased

    @rule(worker=WORKERS)
    def leases_are_renewed(self, worker: str) -> None:
        self.ledger.renew(worker, list(self.ledger.entries), self.now)
        held = [e for e in self.ledger.entries.values() if e.holder == worker]
        assert all(e.deadline == self.now + (10 if e.state is State.LEASED else 5) for e in held)

    @rule(worker=WORKERS, capacity=st.integers(1, 8))
    def verification_is_leased(self, worker: str, capacity: int) -> None:
        taken = self.ledger.lease_verification(worker, capacity, self.now)
        assert len({e.group_id for e in taken}) == len(taken) <= capacity

    @rule(
        data=st.data(),
        rewards=st.one_of(st.none(), st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=4)),
        retryable=st.booleans(),
    )
    def verdict(self, data: st.DataObject, rewards: list[float] | None, retryable: bool) -> None:
        group_id = self.some(data, *State)
        if group_id is not None:
            self.ledger.verdict(group_id, rewards, retryable)

    @rule()
    def batch_is_taken(self) -> None:
        version = self.ledger.version
        batch = self.ledger.take_batch(version)
        if batch is None:
            return
        group_ids = [e.group_id for e in batch]
        assert len(group_ids) == self.limits.groups_per_batch
        assert all(version - e.oldest <= self.limits.max_staleness for e in batch)
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
        self.ledger.trained(version)

    @rule()
    def checkpoint(self) -> None:
        before = self.ledger.committed
        covered = self.ledger.commit(self.ledger.version)
        assert self.ledger.committed == before + len(covered)

    @rule(back=st.integers(0, 3))
    def learner_restarts_and_asks_again(self, back: int) -> None:
        version = self.ledger.version - back
        if version in self.ledger.batches:
            batch = self.ledger.take_batch(version)
            assert batch is not None
            assert [e.group_id for e in batch] == self.delivered[version]

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.ledger.expire(self.now)
        assert all(e.deadline > self.now for e in self.ledger.entries.values() if e.holder)

    @rule(worker=WORKERS)
    def worker_dies(self, worker: str) -> None:
        self.ledger.worker_lost(worker)
        assert all(e.holder != worker for e in self.ledger.entries.values())

    @rule(batch=st.integers(1, 4), staleness=st.integers(0, 3))
    def everything_restarts_from_a_checkpoint_with_other_limits(self, batch: int, staleness: int) -> None:
        version = self.ledger.version
        snapshot = json.loads(json.dumps(self.ledger.snapshot(version)))
        known = set(range(self.ledger.tasks.cursor))
        unfinished = {e.task for e in self.ledger.entries.values() if e.state is not State.TRAINED}
        done = self.ledger.committed + sum(e.state is State.TRAINED for e in self.ledger.entries.values())
        assert known - unfinished - set(self.ledger.tasks.to_reissue()) >= self.trained_tasks
        self.limits = replace(self.limits, groups_per_batch=batch, max_staleness=staleness)
        self.ledger = Ledger.resume(self.limits, snapshot)
        assert unfinished <= set(self.ledger.tasks.to_reissue())
        assert self.ledger.committed == done
        assert self.ledger.capacity(version) == Ledger(self.limits).capacity(0)
        self.first_version, self.settled = version, done
        self.delivered.clear()
        self.trained_group_ids.clear()  # the numbers of what was lost are given again

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "ledger"):
            assert self.ledger.conserved()
            assert self.ledger.issued == sum(self.ledger.counts().values()) + self.ledger.committed + sum(
                self.ledger.dropped.values()
            )

    @invariant()
    def a_task_is_never_in_two_places(self) -> None:
        if hasattr(self, "ledger"):
            tasks = [e.task for e in self.ledger.entries.values()] + self.ledger.tasks.to_reissue()
            assert len(tasks) == len(set(tasks))

    @invariant()
    def no_task_is_lost_for_ever(self) -> None:
        if hasattr(self, "ledger"):
            assert all(lost < self.limits.generation_attempts for lost in self.ledger.tasks.losses.values())
            assert set(self.ledger.tasks.losses) <= {e.task for e in self.ledger.entries.values()} | set(
                self.ledger.tasks.to_reissue()
            )
            last = [
                e.holder
                for e in self.ledger.entries.values()
                if e.state is State.LEASED
                and 0 < self.ledger.tasks.losses[e.task] == self.limits.generation_attempts - 1
            ]
            assert len(last) == len(set(last)), "a generator holds two tasks on their last attempt"

    @invariant()
    def the_bound_on_admission_holds(self) -> None:
        if hasattr(self, "ledger"):
            outstanding = self.ledger.issued - self.settled - self.ledger.dropped.total()
            batches = self.limits.max_staleness + self.ledger.version - self.first_version + 1
            assert outstanding <= batches * self.limits.groups_per_batch


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)


def ready(ledger: Ledger, count: int, version: int) -> list[int]:
    """`count` groups of one version, verified and ready."""
    group_ids = [e.group_id for e in ledger.lease("g", version, count, 0.0)]
    for group_id in group_ids:
        ledger.group_arrived(group_id, version, version)
        ledger.verdict(group_id, [0.0, 1.0])
    return group_ids


def test_staleness_zero_is_synchronous() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=0, groups_per_batch=2))
    assert len(ledger.lease("g", 0, 10, 0.0)) == 2
    assert ledger.lease("g", 0, 10, 0.0) == [], "the next batch must wait for the next version"


def test_a_generator_that_lags_is_given_less() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=1, groups_per_batch=2))
    ready(ledger, 2, 0)
    ledger.take_batch(0)
    ledger.trained(0)
    assert ledger.capacity(version=0) == 2
    assert ledger.capacity(version=1) == 4


def test_a_resumed_run_has_the_capacity_of_a_fresh_one_whatever_its_batches_were() -> None:
    first = Ledger(ReplayLimits(max_staleness=1, groups_per_batch=8))
    for version in range(5):
        ready(first, 8, version)
        first.take_batch(version)
        first.trained(version)
    ready(first, 3, 5)
    snapshot = first.snapshot(5)
    for batch in (1, 8, 20):
        limits = ReplayLimits(max_staleness=1, groups_per_batch=batch)
        resumed = Ledger.resume(limits, snapshot)
        assert resumed.capacity(5) == 2 * batch
        assert len(ready(resumed, 100, 5)) == 2 * batch
        assert len(resumed.take_batch(5) or ()) == batch
        resumed.trained(5)
        assert resumed.capacity(6) == batch, "the next version admits one more batch"


def test_tasks_go_on_where_the_checkpoint_is_none_skipped_and_none_repeated() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=1, groups_per_batch=2))
    ready(ledger, 2, 0)
    ledger.take_batch(0)
    ledger.trained(0)
    ready(ledger, 2, 1)  # verified, but not trained on when the checkpoint is made
    resumed = Ledger.resume(ledger.limits, ledger.snapshot(1))
    assert [e.task for e in resumed.lease("g", 1, 4, 0.0)] == [2, 3, 4, 5]


def test_a_group_that_grew_too_old_is_dropped_and_its_task_issued_again() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=1, groups_per_batch=1))
    old, young = ready(ledger, 2, 0)
    for version in (0, 1):
        ledger.take_batch(version)
        ledger.trained(version)
    (late,) = ledger.lease("g", 2, 1, 0.0)
    ledger.group_arrived(late.group_id, 0, 2)
    ledger.verdict(late.group_id, [0.0, 1.0])
    assert ledger.take_batch(2) is None
    assert ledger.dropped == {Reason.STALE: 1}
    assert [e.task for e in ledger.lease("g", 2, 1, 0.0)] == [late.task]
    assert (old, young) == (0, 1)


def test_equal_rewards_are_dropped_and_not_repeated() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=0, groups_per_batch=1))
    (entry,) = ledger.lease("g", 0, 1, 0.0)
    ledger.group_arrived(entry.group_id, 0, 0)
    ledger.verdict(entry.group_id, [1.0, 1.0])
    assert ledger.dropped == {Reason.ZERO_VARIANCE: 1}
    assert [e.task for e in ledger.lease("g", 0, 1, 0.0)] == [entry.task + 1]


def test_broken_verification_is_repeated_and_then_dropped_but_never_a_reward() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=0, groups_per_batch=1, verify_attempts=2))
    (entry,) = ledger.lease("g", 0, 1, 0.0)
    ledger.group_arrived(entry.group_id, 0, 0)
    for _ in range(2):
        assert len(ledger.lease_verification("v", 1, 0.0)) == 1
        ledger.verdict(entry.group_id, None)
    assert ledger.dropped == {Reason.INFRA_ERROR: 1}
    assert ledger.take_batch(0) is None


def test_an_attempt_that_would_break_again_is_the_last() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=0, groups_per_batch=1, verify_attempts=9))
    (entry,) = ledger.lease("g", 0, 1, 0.0)
    ledger.group_arrived(entry.group_id, 0, 0)
    ledger.verdict(entry.group_id, None, retryable=False)
    assert ledger.dropped == {Reason.INFRA_ERROR: 1}


def test_of_the_tasks_that_die_together_only_the_one_at_fault_is_given_up() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=9, groups_per_batch=9, generation_attempts=3))
    poison = 5
    for number in range(40):
        worker = f"generator-{number}"
        held = ledger.lease(worker, 0, 8, 0.0)
        if any(e.task == poison for e in held):
            ledger.worker_lost(worker)
            continue
        for entry in held:
            ledger.group_arrived(entry.group_id, 0, 0)
            ledger.verdict(entry.group_id, [0.0, 1.0])
    assert ledger.dropped == {Reason.WORKER_LOST: 23, Reason.ATTEMPTS_EXHAUSTED: 1}
    assert poison not in ledger.tasks.to_reissue()
    done = {e.task for e in ledger.entries.values() if e.state is State.READY}
    assert done == set(range(max(done) + 1)) - {poison}, "a task went down with another"


def test_a_lease_that_runs_out_again_and_again_is_the_tasks_fault_and_staleness_is_not() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=0, groups_per_batch=1, lease_seconds=10, generation_attempts=2))
    for version in range(4):
        (entry,) = ledger.lease("g", version, 1, 0.0)
        ledger.group_arrived(entry.group_id, 0, 0)
        ledger.verdict(entry.group_id, [0.0, 1.0])
        assert ledger.take_batch(version=1) is None
    assert ledger.dropped == {Reason.STALE: 4}
    for start in (0.0, 20.0):
        assert [e.task for e in ledger.lease("g", 4, 1, start)] == [0]
        ledger.expire(start + 11)
    assert ledger.dropped == {Reason.STALE: 4, Reason.LEASE_EXPIRED: 1, Reason.ATTEMPTS_EXHAUSTED: 1}
    assert [e.task for e in ledger.lease("g", 4, 1, 40.0)] == [1]


def test_a_group_that_takes_many_leases_is_kept_while_its_generator_works_on_it() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=0, groups_per_batch=2, lease_seconds=10, verify_lease_seconds=5))
    long, lost = ledger.lease("g", 0, 2, 0.0)
    for now in range(5, 60, 5):
        ledger.renew("g", [long.group_id], float(now))
        ledger.renew("another", [lost.group_id], float(now))
        ledger.expire(float(now))
    assert ledger.dropped == {Reason.LEASE_EXPIRED: 1}
    assert ledger.group_arrived(long.group_id, 0, 0)
    ledger.lease_verification("v", 1, 60.0)
    ledger.renew("v", [long.group_id], 64.0)
    ledger.expire(68.0)
    assert long.state is State.VERIFYING


def test_there_may_be_an_end_of_tasks() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=0, groups_per_batch=3, tasks=3))
    entries = ledger.lease("g", 0, 9, 0.0)
    assert [e.task for e in entries] == [0, 1, 2]
    ledger.drop(entries[0].group_id, Reason.OVERLONG)
    ledger.drop(entries[1].group_id, Reason.STALE)
    assert [e.task for e in ledger.lease("g", 0, 9, 0.0)] == [1], "no task is a second copy of another"


def test_a_late_group_is_rejected() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=0, groups_per_batch=1, lease_seconds=10))
    (entry,) = ledger.lease("g", 0, 1, 0.0)
    ledger.expire(11.0)
    assert not ledger.group_arrived(entry.group_id, 0, 0)
    assert [e.task for e in ledger.lease("g", 0, 1, 11.0)] == [entry.task]


def test_oldest_groups_are_delivered_first() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=3, groups_per_batch=2))
    entries = ledger.lease("g", 0, 4, 0.0)
    for entry, oldest in zip(entries, (2, 0, 1, 0), strict=True):
        ledger.group_arrived(entry.group_id, oldest, 2)
        ledger.verdict(entry.group_id, [0.0, 1.0])
    batch = ledger.take_batch(2)
    assert batch is not None
    assert [e.oldest for e in batch] == [0, 0]
