"""The ledger: everything the replay knows about training groups, as a pure state machine.

No I/O, no clock, no threads, no randomness: time is an argument, decisions are return values.

A *task* is a number; the task stream says which problem it stands for. Every time a task is leased it gets a
*group_id*, which is the group's identity from then on:

    state      entered by                        leaves by
    leased     lease                             group_arrived | expiry or loss of the generator -> dropped
                                                     (lease_expired, worker_lost, at last attempts_exhausted;
                                                     returned, where the generator leaves on purpose)
    generated  group_arrived                     lease_verification | expiry or loss of the verifier comes back here
    verifying  lease_verification                verdict | an attempt that would break again, or too many -> dropped
                                                     (infra_error)
    ready      verdict                           take_batch | too old -> dropped(stale)
    delivered  take_batch                        trained
    trained    trained                           committed
    committed  committed                         -
    dropped    drop(reason)                      -

The invariant (conservation):  issued = leased + generated + verifying + ready + delivered + trained + committed
                                        + sum(dropped),   at every instant.

Versions count batches: the batch that the learner trains at version v makes version v + 1. The *staleness* of a group
is v minus the version of its oldest token, and it is bounded twice:

- Admission. A generator that holds version w is leased a task only if the group can still be trained in time,
  that is, if   issued - dropped < (max_staleness + w + 1) * groups_per_batch.
  A run that resumes may have another groups_per_batch than before. What was committed until then is settled, so both
  sides count from there: with v0, the version that it resumed at, and n0, the groups committed below it,
  issued - n0 - dropped < (max_staleness + w - v0 + 1) * groups_per_batch.
- Delivery. A batch for version v holds only groups with v - oldest <= max_staleness; older ones are dropped as stale
  and their tasks are issued again.

A task may be what its generators die of. One that was lost `generation_attempts` times in a row, with its generator or
its lease and without a new token that was reported in between, is not issued again. On its last attempt it is the only
such task of its generator, so that of many tasks that are lost together only the one that is at fault is given up.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    LEASED = "leased"
    GENERATED = "generated"
    VERIFYING = "verifying"
    READY = "ready"
    DELIVERED = "delivered"
    TRAINED = "trained"


class Reason(StrEnum):
    """Why a group was dropped."""

    STALE = "stale"
    ZERO_VARIANCE = "zero_variance"
    INFRA_ERROR = "infra_error"
    MALFORMED = "malformed"
    OVERLONG = "overlong"
    LEASE_EXPIRED = "lease_expired"
    WORKER_LOST = "worker_lost"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    RETURNED = "returned"


#: The task itself was not at fault, so it is issued again; every other reason would only repeat itself.
REISSUED = frozenset({Reason.STALE, Reason.LEASE_EXPIRED, Reason.WORKER_LOST, Reason.RETURNED})


@dataclass(frozen=True, slots=True)
class ReplayLimits:
    """The bounds that the ledger keeps; see `ReplayConfig` for their units. `tasks` is how many there are: no end to
    them by default.
    """

    max_staleness: int
    groups_per_batch: int
    drop_zero_variance: bool = True
    lease_seconds: float = 120.0
    verify_lease_seconds: float = 30.0
    verify_attempts: int = 3
    generation_attempts: int = 3
    tasks: int | None = None


@dataclass(slots=True)
class Entry:
    """One group that is neither committed nor dropped."""

    group_id: int
    task: int
    state: State
    holder: str | None = None
    deadline: float = 0.0
    oldest: int = 0
    newest: int = 0
    attempts: int = 0
    rewards: tuple[float, ...] = ()


@dataclass(slots=True)
class Ledger:
    """See the module's docstring, where `first_version` is v0 and `settled` n0. Methods that take `now` expect seconds
    of one monotonic clock.
    """

    limits: ReplayLimits
    first_group_id: int = 0
    first_version: int = 0
    settled: int = 0
    version: int = 0
    cursor: int = 0
    issued: int = 0
    committed: int = 0
    dropped: Counter[Reason] = field(default_factory=Counter)
    entries: dict[int, Entry] = field(default_factory=dict)
    pending: deque[int] = field(default_factory=deque)
    losses: Counter[int] = field(default_factory=Counter)
    batches: dict[int, list[int]] = field(default_factory=dict)
    newly_dropped: list[tuple[int, Reason]] = field(default_factory=list)

    # ---------------------------------------------------------------- generators

    def capacity(self, version: int) -> int:
        """How many tasks may be leased to a generator that holds `version`."""
        outstanding = self.issued - self.settled - self.dropped.total()
        batches = self.limits.max_staleness + version - self.first_version + 1
        return max(0, batches * self.limits.groups_per_batch - outstanding)

    def lease(self, worker: str, version: int, capacity: int, now: float) -> list[Entry]:
        """At most `capacity` tasks for a generator that holds `version`; none where the bound forbids it."""
        entries: list[Entry] = []
        for _ in range(min(capacity, self.capacity(version))):
            if (task := self._next_task(worker)) is None:
                break
            entries.append(self._issue(task, worker, now))
        return entries

    def _next_task(self, worker: str) -> int | None:
        busy = self._holds_last_attempt(worker)
        for position, task in enumerate(self.pending):
            if not (busy and self._on_last_attempt(task)):
                del self.pending[position]
                return task
        if self.limits.tasks is not None and self.cursor >= self.limits.tasks:
            return None
        task, self.cursor = self.cursor, self.cursor + 1
        return task

    def _on_last_attempt(self, task: int) -> bool:
        return 0 < self.losses[task] == self.limits.generation_attempts - 1

    def _holds_last_attempt(self, worker: str) -> bool:
        return any(e.holder == worker and self._on_last_attempt(e.task) for e in self._in(State.LEASED))

    def _issue(self, task: int, worker: str, now: float) -> Entry:
        entry = Entry(self.first_group_id + self.issued, task, State.LEASED, worker, now + self.limits.lease_seconds)
        self.issued += 1
        self.entries[entry.group_id] = entry
        return entry

    def group_arrived(self, group_id: int, oldest: int, newest: int) -> bool:
        """A generator's group is here. False where the lease is over, and the group is to be thrown away."""
        entry = self.entries.get(group_id)
        if entry is None or entry.state is not State.LEASED:
            return False
        entry.state, entry.holder, entry.oldest, entry.newest = State.GENERATED, None, oldest, newest
        del self.losses[entry.task]
        return True

    # ---------------------------------------------------------------- verifiers

    def lease_verification(self, worker: str, capacity: int, now: float) -> list[Entry]:
        """The oldest groups that wait for a verdict, at most `capacity`."""
        waiting = [e for e in self.entries.values() if e.state is State.GENERATED][:capacity]
        for entry in waiting:
            entry.state, entry.holder = State.VERIFYING, worker
            entry.deadline = now + self.limits.verify_lease_seconds
            entry.attempts += 1
        return waiting

    def verdict(self, group_id: int, rewards: Sequence[float] | None, retryable: bool = True) -> bool:
        """A verifier's rewards, or None where verification itself broke, `retryable` where another attempt may go well.
        False where nobody waits for them.
        """
        entry = self.entries.get(group_id)
        if entry is None or entry.state not in (State.GENERATED, State.VERIFYING):
            return False
        if rewards is None:
            self._verification_broke(entry, retryable)
        elif self.limits.drop_zero_variance and len(set(rewards)) < 2:
            self.drop(group_id, Reason.ZERO_VARIANCE)
        else:
            entry.state, entry.holder, entry.rewards = State.READY, None, tuple(rewards)
        return True

    def _verification_broke(self, entry: Entry, retryable: bool = True) -> None:
        if not retryable or entry.attempts >= self.limits.verify_attempts:
            self.drop(entry.group_id, Reason.INFRA_ERROR)
        else:
            entry.state, entry.holder = State.GENERATED, None

    # ---------------------------------------------------------------- learner

    def take_batch(self, version: int) -> list[Entry] | None:
        """The batch that is trained at `version`, or None while too few groups are ready.

        Asked again, for a version that is not committed yet, it is the same batch in the same order.
        """
        if version not in self.batches:
            self._drop_stale(version)
            ready = sorted(self._in(State.READY), key=lambda e: (e.oldest, e.task))[: self.limits.groups_per_batch]
            if len(ready) < self.limits.groups_per_batch:
                return None
            self.batches[version] = [e.group_id for e in ready]
            for entry in ready:
                entry.state = State.DELIVERED
        return [self.entries[group_id] for group_id in self.batches[version]]

    @property
    def next_version(self) -> int:
        """The version of the earliest batch that a group may still come into."""
        return max(self.version, max(self.batches, default=-1) + 1)

    def _drop_stale(self, version: int) -> None:
        for entry in list(self._in(State.READY)):
            if version - entry.oldest > self.limits.max_staleness:
                self.drop(entry.group_id, Reason.STALE)

    def trained(self, version: int) -> None:
        """The batch of `version` went into an optimizer step.

        Raises:
            KeyError: if it was never delivered.
        """
        for group_id in self.batches[version]:
            self.entries[group_id].state = State.TRAINED
        self.version = max(self.version, version + 1)

    def commit(self, version: int) -> list[int]:
        """A checkpoint that contains every step below `version` is durable; returns the group_ids it covers."""
        covered = [v for v in self.batches if v < version and self._is_trained(v)]
        group_ids = [group_id for v in covered for group_id in self.batches.pop(v)]
        for group_id in group_ids:
            del self.entries[group_id]
        self.committed += len(group_ids)
        return group_ids

    def _is_trained(self, version: int) -> bool:
        return all(self.entries[group_id].state is State.TRAINED for group_id in self.batches[version])

    # ---------------------------------------------------------------- time and death

    def renew(self, worker: str, group_ids: Iterable[int], now: float) -> None:
        """A generator or verifier works on these groups; what it does not hold any more stays as it is."""
        for group_id in group_ids:
            entry = self.entries.get(group_id)
            if entry is not None and entry.holder == worker:
                leased = entry.state is State.LEASED
                entry.deadline = now + (self.limits.lease_seconds if leased else self.limits.verify_lease_seconds)

    def progressed(self, group_id: int, now: float) -> None:
        """A leased group has new tokens that can be continued: its lease begins anew, and earlier losses are forgiven.

        Raises:
            KeyError: if the group_id is not in the ledger.
        """
        entry = self.entries[group_id]
        entry.deadline = now + self.limits.lease_seconds
        del self.losses[entry.task]

    def worker_left(self, worker: str) -> bool:
        """Take back everything that a generator or verifier holds, which leaves on purpose: no attempt has failed.

        Returns:
            Whether it held any.
        """
        held = [e for e in self.entries.values() if e.holder == worker]
        for entry in held:
            if entry.state is State.LEASED:
                self.drop(entry.group_id, Reason.RETURNED)
            else:
                entry.state, entry.holder, entry.attempts = State.GENERATED, None, entry.attempts - 1
        return bool(held)

    def expire(self, now: float) -> None:
        """Revoke what is past its deadline."""
        self._revoke([e for e in self.entries.values() if e.holder and e.deadline <= now], Reason.LEASE_EXPIRED)

    def worker_lost(self, worker: str) -> None:
        """Revoke everything that a generator or verifier holds."""
        self._revoke([e for e in self.entries.values() if e.holder == worker], Reason.WORKER_LOST)

    def _revoke(self, entries: Iterable[Entry], reason: Reason) -> None:
        for entry in entries:
            if entry.state is State.LEASED:
                self.losses[entry.task] += 1
                again = self.losses[entry.task] < self.limits.generation_attempts
                self.drop(entry.group_id, reason if again else Reason.ATTEMPTS_EXHAUSTED)
            else:
                self._verification_broke(entry)

    def drop(self, group_id: int, reason: Reason) -> None:
        """Take a group out.

        Raises:
            KeyError: if the group_id is not in the ledger.
        """
        entry = self.entries.pop(group_id)
        self.dropped[reason] += 1
        self.newly_dropped.append((group_id, reason))
        if reason in REISSUED:
            self.pending.append(entry.task)
        else:
            del self.losses[entry.task]

    # ---------------------------------------------------------------- looking and resuming

    def _in(self, state: State) -> Iterable[Entry]:
        return (e for e in self.entries.values() if e.state is state)

    def counts(self) -> dict[State, int]:
        """Groups in each state that is neither committed nor dropped."""
        found = Counter(e.state for e in self.entries.values())
        return {state: found[state] for state in State}

    def conserved(self) -> bool:
        """Whether every group that was issued is accounted for."""
        return self.issued == len(self.entries) + self.committed + self.dropped.total()

    def snapshot(self, version: int) -> dict[str, Any]:
        """What a checkpoint of `version` must remember: groups of earlier batches are done, all other tasks are not.

        Temporary: until the replay has a journal of its own, its position travels in the learner's checkpoint. It is
        numbers only, and each is needed: `version` and `committed` bound the staleness, `cursor` and `pending` say
        which tasks come next, `dropped` keeps the run's counters. Groups and payloads are generated anew.
        """
        done = {group_id for v, group_ids in self.batches.items() if v < version for group_id in group_ids}
        unfinished = [e.task for e in self.entries.values() if e.group_id not in done]
        return {
            "version": version,
            "cursor": self.cursor,
            "committed": self.committed + len(done),
            "pending": unfinished + list(self.pending),
            "dropped": {str(reason): count for reason, count in self.dropped.items()},
        }

    @classmethod
    def resume(cls, limits: ReplayLimits, snapshot: dict[str, Any]) -> "Ledger":
        """The ledger of a run that resumes from a checkpoint, perhaps with other limits: unfinished tasks are issued
        again.
        """
        dropped = Counter({Reason(reason): count for reason, count in snapshot["dropped"].items()})
        return cls(
            limits=limits,
            first_version=snapshot["version"],
            settled=snapshot["committed"],
            version=snapshot["version"],
            cursor=snapshot["cursor"],
            issued=snapshot["committed"] + dropped.total(),
            committed=snapshot["committed"],
            dropped=dropped,
            pending=deque(snapshot["pending"]),
        )
