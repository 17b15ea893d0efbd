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
- Delivery. No token is trained at version v that is more than max_staleness older. What becomes of a group that has
  such tokens, of long completions for the most part, is the rule for stragglers:

      drop   It is dropped as stale and its task issued again: what is trained is biased against long completions.
      wait   There is none. The learner waits while a batch for v would leave an unfinished group (leased to ready) no
             batch in time: while for some D >= v more than (D - v) * groups_per_batch groups would remain that must be
             trained by version D = oldest + max_staleness. It never waits for what is ready, whatever is not becomes
             so or is revoked, and once all is ready the oldest fit, by admission: so it never waits for ever.
      mask   It stays, and the learner gives tokens over the bound no weight. Where all are over it, it is dropped.

What a call costs does not grow with the groups that are held, but for `snapshot`, `renew_all` and `state`.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.replay.limits import REISSUED, Reason, ReplayLimits
from actors.replay.queues import Entry, Queues, State
from actors.replay.task_numbers import TaskNumbers


@dataclass(slots=True)
class Ledger:
    """See the module's docstring, where `first_version` is v0 and `settled` n0. Methods that take `now` expect seconds
    of one monotonic clock; where another clock takes over, `renew_all` comes first. A method that returns False or []
    has changed nothing.

    Attributes:
        groups: in queues by state. Leases are equally long, so that the order of leases is that of their deadlines.
        ready: heap of (version that decides whether it is stale, task, group_id) of what is ready. The order of tasks,
            unlike that of group_ids, does not depend on who is how fast.
        tasks: which of them is issued next.
    """

    limits: ReplayLimits
    first_group_id: int = 0
    first_version: int = 0
    settled: int = 0
    version: int = 0
    issued: int = 0
    committed: int = 0
    dropped: Counter[Reason] = field(default_factory=Counter)
    groups: Queues = field(default_factory=Queues)
    ready: list[tuple[int, int, int]] = field(default_factory=list)
    tasks: TaskNumbers = field(init=False)
    batches: dict[int, list[int]] = field(default_factory=dict)
    newly_dropped: list[tuple[int, Reason]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tasks = TaskNumbers.within(self.limits)

    @property
    def entries(self) -> dict[int, Entry]:
        """Every group that is neither committed nor dropped, by group_id."""
        return self.groups.entries

    # ---------------------------------------------------------------- generators

    def capacity(self, version: int) -> int:
        """How many tasks the bound allows a generator that holds `version`."""
        outstanding = self.issued - self.settled - self.dropped.total()
        batches = self.limits.max_staleness + version - self.first_version + 1
        return max(0, batches * self.limits.groups_per_batch - outstanding)

    def to_lease(self, version: int) -> int:
        """How many tasks there are for a generator that holds `version`."""
        return min(self.tasks.left(), self.capacity(version))

    def lease(self, worker: str, version: int, capacity: int, now: float) -> list[Entry]:
        """At most `capacity` tasks for a generator that holds `version`; none where the bound forbids it."""
        entries, limits = list[Entry](), self.limits
        for _ in range(min(capacity, self.capacity(version))):
            if (task := self.tasks.next(worker)) is None:
                break
            group_id, deadline = limits.number(self.first_group_id + self.issued), now + limits.lease_seconds
            entries.append(Entry(group_id, task, State.LEASED, worker, deadline, oldest=version))
            self.groups.add(entries[-1])
            self.issued += 1
        return entries

    def group_arrived(self, group_id: int, oldest: int, newest: int) -> bool:
        """A generator's group is here. False where the lease is over, and the group is to be thrown away."""
        entry = self.entries.get(group_id)
        if entry is None or entry.state is not State.LEASED:
            return False
        self.tasks.returned(entry.task, entry.holder)
        self.tasks.done(entry.task)
        self.groups.arrived(entry, oldest, newest)
        return True

    # ---------------------------------------------------------------- verifiers

    def lease_verification(self, worker: str, capacity: int, now: float) -> list[Entry]:
        """The groups that have waited longest for a verdict, at most `capacity`."""
        entries: list[Entry] = []
        while len(entries) < capacity and (entry := self.groups.first(State.GENERATED)):
            self.groups.move(entry, State.VERIFYING, worker, now + self.limits.verify_lease_seconds)
            entry.attempts += 1
            entries.append(entry)
        return entries

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
            self._drop(entry, Reason.ZERO_VARIANCE)
        else:
            entry.rewards = tuple(rewards)
            self.groups.move(entry, State.READY)
            heapq.heappush(self.ready, self._rank(entry))
        return True

    def _verification_broke(self, entry: Entry, retryable: bool = True) -> None:
        if not retryable or entry.attempts >= self.limits.verify_attempts:
            self._drop(entry, Reason.INFRA_ERROR)
        else:
            self._wait_for_another(entry)

    def _wait_for_another(self, entry: Entry) -> None:
        self.groups.move(entry, State.GENERATED)
        self.groups.put_in_front(entry)  # none has waited longer

    # ---------------------------------------------------------------- learner

    def take_batch(self, version: int) -> list[Entry] | None:
        """The batch that is trained at `version`, or None while too few groups are ready, or others are waited for.

        Asked again, for a version that is not committed yet, it is the same batch in the same order.
        """
        if version not in self.batches:
            while self._first_is_stale(version):
                self._drop(self._oldest_ready(), Reason.STALE)
            if len(self.ready) < self.limits.groups_per_batch or self.waits(version):
                return None
            batch = [self._oldest_ready() for _ in range(self.limits.groups_per_batch)]
            for entry in batch:
                self.groups.move(entry, State.DELIVERED)
            self.batches[version] = [entry.group_id for entry in batch]
        return [self.entries[group_id] for group_id in self.batches[version]]

    @property
    def next_version(self) -> int:
        """The version of the earliest batch that a group may still come into."""
        return max(self.version, max(self.batches, default=-1) + 1)

    def to_take(self, version: int) -> bool:
        """Whether `take_batch` is worth a call: whether there is a batch, or something to drop, or to object to."""
        if version in self.batches or version < self.version or self._first_is_stale(version):
            return True
        return len(self.ready) >= self.limits.groups_per_batch and not self.waits(version)

    def waits(self, version: int) -> bool:
        """Whether the rule `wait` allows no batch for `version` yet."""
        size, bound = self.limits.groups_per_batch, self.limits.max_staleness
        return self.limits.stragglers == "wait" and any(
            unready and ready + unready - min(ready, size) > max(0, oldest + bound - version) * size
            for oldest, ready, unready in self.groups.ages()
        )

    def oldest_allowed(self, group_id: int) -> int:
        """The oldest version that tokens of a leased group may have, lest they come too late."""
        first, size = self.next_version - self.limits.max_staleness, self.limits.groups_per_batch
        wait = self.limits.stragglers == "wait"
        return self.groups.oldest_in_time(self.entries[group_id], first, size) if wait else first

    def begin_at(self, group_id: int, oldest: int) -> None:
        """A leased group goes on with tokens that are there already, of versions from `oldest_allowed` on."""
        self.groups.begin_at(self.entries[group_id], oldest)

    def _oldest_ready(self) -> Entry:
        return self.entries[heapq.heappop(self.ready)[-1]]

    def _rank(self, entry: Entry) -> tuple[int, int, int]:
        decisive = entry.newest if self.limits.stragglers == "mask" else entry.oldest
        return decisive, entry.task, entry.group_id

    def _first_is_stale(self, version: int) -> bool:
        return bool(self.ready) and version - self.ready[0][0] > self.limits.max_staleness

    def trained(self, version: int) -> None:
        """The batch of `version` went into an optimizer step.

        Raises:
            KeyError: if it was never delivered.
        """
        for group_id in self.batches[version]:
            self.groups.move(self.entries[group_id], State.TRAINED)
        self.version = max(self.version, version + 1)

    def commit(self, version: int) -> list[int]:
        """A checkpoint that contains every step below `version` is durable; returns the group_ids it covers."""
        trained = self.groups.states[State.TRAINED]
        covered = [v for v, batch in self.batches.items() if v < version and all(g in trained for g in batch)]
        group_ids = [group_id for v in covered for group_id in self.batches.pop(v)]
        for group_id in group_ids:
            self.groups.remove(self.entries[group_id])
        self.committed += len(group_ids)
        return group_ids

    # ---------------------------------------------------------------- time and death

    def renew(self, worker: str, group_ids: Iterable[int], now: float) -> bool:
        """A generator or verifier works on these groups; what it does not hold any more stays as it is."""
        for entry in (held := self.groups.held_by(worker, group_ids)):
            self._renew(entry, now)
        return bool(held)

    def renew_all(self, now: float) -> None:
        """Every lease begins anew."""
        states = self.groups.states
        for entry in (*states[State.LEASED].values(), *states[State.VERIFYING].values()):
            self._renew(entry, now)

    def progressed(self, group_id: int, now: float) -> None:
        """A leased group has new tokens that can be continued: its lease begins anew, and earlier losses are forgiven.

        Raises:
            KeyError: if the group_id is not in the ledger.
        """
        self._renew(self.entries[group_id], now)
        self.tasks.done(self.entries[group_id].task)

    def worker_left(self, worker: str) -> bool:
        """Take back what somebody holds who leaves on purpose, as no failed attempt; whether there was any."""
        held = self.groups.held_by(worker)
        for entry in held:
            if entry.state is State.LEASED:
                self._drop(entry, Reason.RETURNED)
            else:
                entry.attempts -= 1
                self._wait_for_another(entry)
        return bool(held)

    def _renew(self, entry: Entry, now: float) -> None:
        leased = entry.state is State.LEASED
        seconds = self.limits.lease_seconds if leased else self.limits.verify_lease_seconds
        self.groups.move(entry, entry.state, entry.holder, now + seconds)

    def expire(self, now: float) -> bool:
        """Revoke what is past its deadline; whether there was any."""
        over = [e for state in (State.LEASED, State.VERIFYING) for e in self.groups.over(state, now)]
        for entry in over:
            self._revoke(entry, Reason.LEASE_EXPIRED)
        return bool(over)

    def worker_lost(self, worker: str) -> bool:
        """Revoke everything that a generator or verifier holds; whether it held any."""
        for entry in (held := self.groups.held_by(worker)):
            self._revoke(entry, Reason.WORKER_LOST)
        return bool(held)

    def _revoke(self, entry: Entry, reason: Reason) -> None:
        if entry.state is State.LEASED:
            self._drop(entry, reason if self.tasks.lost(entry.task) else Reason.ATTEMPTS_EXHAUSTED)
        else:
            self._verification_broke(entry)

    def drop(self, group_id: int, reason: Reason) -> None:
        """Take a group out.

        Raises:
            KeyError: if the group_id is not in the ledger.
        """
        if (entry := self.entries[group_id]).state is State.READY:
            self.ready.remove(self._rank(entry))
            heapq.heapify(self.ready)
        self._drop(entry, Reason(reason))

    def _drop(self, entry: Entry, reason: Reason) -> None:
        self.tasks.returned(entry.task, entry.holder)
        self.groups.remove(entry)
        self.dropped[reason] += 1
        self.newly_dropped.append((entry.group_id, reason))
        if reason in REISSUED:
            self.tasks.again(entry.task)
        else:
            self.tasks.done(entry.task)

    def take_dropped(self) -> list[tuple[int, Reason]]:
        """What was dropped since the last call, and why."""
        taken, self.newly_dropped = self.newly_dropped, []
        return taken

    def counts(self) -> dict[State, int]:
        """Groups in each state that is neither committed nor dropped."""
        return {state: len(queue) for state, queue in self.groups.states.items()}

    def conserved(self) -> bool:
        """Whether every group that was issued is accounted for."""
        return self.issued == sum(self.counts().values()) + self.committed + self.dropped.total()

    def snapshot(self, version: int) -> dict[str, Any]:
        """What a checkpoint of `version` must remember: groups of earlier batches are done, all other tasks are not.

        A run that resumes where its journal does not fit begins with this, and all of it is needed: `version` and
        `committed` bound the staleness, `cursor`, `pending` and `curriculum` say which tasks come next, `dropped` and
        `passed_over` keep the run's counters. Groups and payloads are generated anew.
        """
        done = {group_id for v, group_ids in self.batches.items() if v < version for group_id in group_ids}
        unfinished = [e.task for e in self.entries.values() if e.group_id not in done]
        return {
            "version": version,
            "committed": self.committed + len(done),
            "dropped": {str(reason): count for reason, count in self.dropped.items()},
            **self.tasks.snapshot(unfinished),
        }

    @classmethod
    def resume(cls, limits: ReplayLimits, snapshot: dict[str, Any]) -> "Ledger":
        """The ledger of a run that resumes from a checkpoint, perhaps with other limits: unfinished tasks are issued
        again.
        """
        dropped = Counter({Reason(reason): count for reason, count in snapshot["dropped"].items()})
        ledger = cls(
            limits=limits,
            first_version=snapshot["version"],
            settled=snapshot["committed"],
            version=snapshot["version"],
            issued=snapshot["committed"] + dropped.total(),
            committed=snapshot["committed"],
            dropped=dropped,
        )
        ledger.tasks.resume(snapshot)
        return ledger

    def state(self) -> dict[str, Any]:
        """Everything but the limits, exactly, as MessagePack can hold it; `restored` takes it back."""
        return {
            "numbers": [getattr(self, name) for name in NUMBERS],
            "dropped": dict(self.dropped),
            "groups": self.groups.state(),
            "ready": self.ready,
            "tasks": self.tasks.state(),
            "batches": self.batches,
            "newly_dropped": self.newly_dropped,
        }

    def adopt(self, limits: ReplayLimits) -> None:
        """Keep other bounds from now on; `renew_all` comes next."""
        self.limits = limits
        self.tasks.adopt(limits)
        self.ready = sorted(map(self._rank, self.groups.states[State.READY].values()))

    @classmethod
    def restored(cls, limits: ReplayLimits, state: Mapping[str, Any]) -> "Ledger":
        """The ledger that `state` was taken of."""
        ledger = cls(limits, **dict(zip(NUMBERS, state["numbers"], strict=True)))
        ledger.dropped.update({Reason(reason): count for reason, count in state["dropped"].items()})
        ledger.groups = Queues.restored(state["groups"])
        ledger.ready = [(version, task, group_id) for version, task, group_id in state["ready"]]
        ledger.tasks.restore(state["tasks"])
        ledger.batches = {version: list(group_ids) for version, group_ids in state["batches"].items()}
        ledger.newly_dropped = [(group_id, Reason(reason)) for group_id, reason in state["newly_dropped"]]
        return ledger


#: Fields that are plain numbers, and methods that change nothing.
NUMBERS = ("first_group_id", "first_version", "settled", "version", "issued", "committed")
READS = ("capacity", "to_lease", "to_take", "waits", "counts", "conserved", "snapshot", "state", "oldest_allowed")
