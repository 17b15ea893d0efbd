"""The ledger keeps its promises whatever happens in whatever order."""

from hypothesis import settings

from actors.replay.ledger import Ledger
from actors.replay.limits import Reason, ReplayLimits
from actors.replay.queues import State
from tests.unit.actors.replay.ledger_machine import LedgerMachine

TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


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


def test_who_waits_for_stragglers_lets_old_tokens_be_continued_while_there_is_room_for_them_in_time() -> None:
    ledger = Ledger(ReplayLimits(max_staleness=2, groups_per_batch=1, stragglers="wait"))
    for version in range(2):
        ready(ledger, 1, version)
        ledger.take_batch(version)
        ledger.trained(version)
    first, second = ledger.lease("g", 2, 2, 0.0)
    assert ledger.oldest_allowed(first.group_id) == 0, "the next batch, of version 2, has room for it"
    ledger.begin_at(first.group_id, 0)
    assert ledger.oldest_allowed(second.group_id) == 1, "that batch is full of groups that must be in it"
    assert ready(ledger, 1, 2)
    assert ledger.take_batch(2) is None, "the learner waits for the one that is as old as the bound"
    ledger.group_arrived(first.group_id, 0, 2)
    ledger.verdict(first.group_id, [0.0, 1.0])
    assert [e.group_id for e in ledger.take_batch(2) or ()] == [first.group_id]
