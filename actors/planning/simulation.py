"""A discrete-event simulation of the fleet: generators, verifiers, the real ledger, learner, weight updates.

Time is simulated, decisions are not: what is leased, delivered, waited for and dropped is decided by the ledger that a
run has. Every sequence of a generator advances at the same rate, which depends on how many there are (processor
sharing); so a generator has one clock in tokens, and a sequence ends where that clock reaches its length.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from actors.replay.ledger import Ledger
from actors.replay.limits import ReplayLimits
from actors.replay.queues import State

#: Groups that are issued for each one that is to be trained, after which nothing is expected any more.
MOST_ISSUED = 50


@dataclass(frozen=True, slots=True)
class SimulatedFleet:
    """What is simulated.

    Attributes:
        generators, groups_in_flight, sequences: how many there are, and how much one works on at a time.
        rate: tokens a second of one sequence, where so many run on the generator.
        length: draws the length of a completion (tokens).
        mixed: draws whether the rewards of a group differ.
        group_size: completions of a group.
        verifiers, verify_seconds: how many there are, and how long one takes for a group (s).
        step_seconds: how long the learner takes for a batch of so many tokens (s).
        transfer_seconds, pause_seconds: of a weight update; generation stands still in the latter (s).
        checkpoint_every: steps.
        limits: of the ledger.
    """

    generators: int
    groups_in_flight: int
    sequences: int
    rate: Callable[[int], float]
    length: Callable[[random.Random], int]
    mixed: Callable[[random.Random], bool]
    group_size: int
    verifiers: int
    verify_seconds: float
    step_seconds: Callable[[int], float]
    transfer_seconds: float
    pause_seconds: float
    limits: ReplayLimits
    checkpoint_every: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One training step: when it ended, how long it took (s), its groups and tokens, and how old each group was."""

    ended: float
    seconds: float
    groups: int
    tokens: int
    staleness: Sequence[int]


@dataclass(slots=True)
class SimulatedRun:
    """What came of it.

    Attributes:
        steps: all of them.
        seconds: simulated time (s).
        generated: tokens of all groups that arrived.
        busy: seconds that generators had a sequence, verifiers a group, the learner a batch; summed over each pool.
        starved: seconds that generators had room and were leased nothing, summed; by the bounds on staleness.
        ready: groups that were ready, integrated over time (group-seconds).
        sent: weight updates.
        dropped: groups by reason.
        issued: groups.
    """

    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0
    generated: int = 0
    busy: dict[str, float] = field(default_factory=lambda: {"generator": 0.0, "verifier": 0.0, "learner": 0.0})
    starved: float = 0.0
    ready: float = 0.0
    sent: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    issued: int = 0


@dataclass(slots=True)
class _Generator:
    """One engine. `clock` is in tokens; `running` are the sequences by where on it they end; `queued` wait for room."""

    name: str
    version: int = 0
    clock: float = 0.0
    since: float = 0.0
    epoch: int = 0
    groups: int = 0
    running: list[tuple[float, int]] = field(default_factory=list)
    queued: deque[tuple[int, int]] = field(default_factory=deque)
    starved_since: float | None = 0.0


@dataclass(slots=True)
class _Group:
    left: int
    oldest: int
    tokens: int = 0


def simulate(fleet: SimulatedFleet, steps: int, seed: int = 0) -> SimulatedRun:
    """Let a fleet train so many steps from its first leases on; fewer, where nearly all groups are dropped."""
    return _Simulation(fleet, seed).run(steps, MOST_ISSUED * (steps + 1) * fleet.limits.groups_per_batch)


class _Simulation:
    def __init__(self, fleet: SimulatedFleet, seed: int) -> None:
        self.fleet, self.random, self.now = fleet, random.Random(seed), 0.0
        self.ledger, self.outcome = Ledger(fleet.limits), SimulatedRun()
        self.generators = [_Generator(f"g{number}") for number in range(fleet.generators)]
        self.hungry: deque[_Generator] = deque(self.generators)
        self.groups: dict[int, _Group] = {}
        self.tokens: dict[int, int] = {}
        self.idle_verifiers = fleet.verifiers
        self.version, self.training, self.fetched = 0, False, False
        self.sending = self.behind = False
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()

    def run(self, steps: int, most: int) -> SimulatedRun:
        self._lease()
        while self._events and len(self.outcome.steps) < steps and self.ledger.issued < most:
            moment, _, happen, arguments = heapq.heappop(self._events)
            self.outcome.ready += (moment - self.now) * len(self.ledger.ready)
            self.now = moment
            happen(*arguments)
        return self._ended()

    def _ended(self) -> SimulatedRun:
        for generator in self.generators:
            self._advance(generator)
            self._fed(generator)
        self.outcome.seconds, self.outcome.issued = self.now, self.ledger.issued
        self.outcome.dropped = {str(reason): number for reason, number in self.ledger.dropped.items()}
        return self.outcome

    def _at(self, seconds: float, happen: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), happen, arguments))

    # ---------------------------------------------------------------- generators

    def _lease(self) -> None:
        """Lease to those that have room, in the order in which they asked, while the bound allows it."""
        while self.hungry:
            generator = self.hungry[0]
            free = self.fleet.groups_in_flight - generator.groups
            entries = self.ledger.lease(generator.name, generator.version, free, self.now)
            if not entries:  # nor is there any for the others, who hold the same version
                break
            self._fed(generator)
            self._advance(generator)
            for entry in entries:
                self._begin(generator, entry.group_id)
            self._schedule(generator)
            if generator.groups == self.fleet.groups_in_flight:
                self.hungry.popleft()

    def _fed(self, generator: _Generator) -> None:
        if generator.starved_since is not None:
            self.outcome.starved += self.now - generator.starved_since
            generator.starved_since = None

    def _begin(self, generator: _Generator, group_id: int) -> None:
        self.groups[group_id] = _Group(self.fleet.group_size, generator.version)
        generator.groups += 1
        for _ in range(self.fleet.group_size):
            generator.queued.append((self.fleet.length(self.random), group_id))
        self._admit(generator)

    def _admit(self, generator: _Generator) -> None:
        while generator.queued and len(generator.running) < self.fleet.sequences:
            length, group_id = generator.queued.popleft()
            self.groups[group_id].tokens += length
            heapq.heappush(generator.running, (generator.clock + length, group_id))

    def _advance(self, generator: _Generator) -> None:
        """Bring the clock of a generator up to now."""
        passed = max(0.0, self.now - generator.since)
        if generator.running and passed:
            generator.clock += passed * self.fleet.rate(len(generator.running))
            self.outcome.busy["generator"] += passed
        generator.since = max(generator.since, self.now)

    def _schedule(self, generator: _Generator) -> None:
        """Come back when its next sequence ends; whatever was scheduled before counts no more."""
        generator.epoch += 1
        if generator.running:
            tokens = max(0.0, generator.running[0][0] - generator.clock)
            pause = generator.since - self.now
            self._at(pause + tokens / self.fleet.rate(len(generator.running)), self._ends, generator, generator.epoch)

    def _ends(self, generator: _Generator, epoch: int) -> None:
        if epoch != generator.epoch:
            return
        self._advance(generator)
        generator.clock = max(generator.clock, generator.running[0][0])  # what rounding has left
        while generator.running and generator.running[0][0] <= generator.clock:
            _, group_id = heapq.heappop(generator.running)
            self.groups[group_id].left -= 1
            if not self.groups[group_id].left:
                self._arrived(generator, group_id)
        self._admit(generator)
        self._schedule(generator)
        self._lease()

    def _arrived(self, generator: _Generator, group_id: int) -> None:
        group = self.groups.pop(group_id)
        if generator.groups == self.fleet.groups_in_flight:
            self.hungry.append(generator)
        generator.groups -= 1
        if not generator.groups:
            generator.starved_since = self.now  # until it is leased another, at this very moment where there is one
        self.outcome.generated += group.tokens
        self.tokens[group_id] = group.tokens
        self.ledger.group_arrived(group_id, group.oldest, generator.version)
        self._verify()

    # ---------------------------------------------------------------- verifiers

    def _verify(self) -> None:
        while self.idle_verifiers and (entries := self.ledger.lease_verification("verifier", 1, self.now)):
            self.idle_verifiers -= 1
            self.outcome.busy["verifier"] += self.fleet.verify_seconds
            self._at(self.fleet.verify_seconds, self._verified, entries[0].group_id)

    def _verified(self, group_id: int) -> None:
        self.idle_verifiers += 1
        self.ledger.verdict(group_id, (0.0, 1.0) if self.fleet.mixed(self.random) else (1.0, 1.0))
        self._forget()
        self._verify()
        self._take()
        self._lease()  # a group that was dropped makes room

    # ---------------------------------------------------------------- learner

    def _take(self) -> None:
        """Train the next batch, where there is one; the one after it is asked for at once."""
        if not self.training and self._batch(self.version):
            self._train()
        if self.training:
            self.fetched = self.fetched or self._batch(self.version + 1)

    def _batch(self, version: int) -> bool:
        if not self.ledger.to_take(version):
            return False
        taken = self.ledger.take_batch(version) is not None
        self._forget()
        return taken

    def _forget(self) -> None:
        for group_id, _ in self.ledger.take_dropped():
            self.tokens.pop(group_id, None)

    def _train(self) -> None:
        entries = self.ledger.take_batch(self.version)
        assert entries is not None
        tokens = sum(self.tokens.pop(entry.group_id) for entry in entries)
        staleness = [self.version - max(entry.oldest, self._oldest_trained()) for entry in entries]
        seconds = self.fleet.step_seconds(tokens)
        self.training, self.fetched = True, False
        self.outcome.busy["learner"] += seconds
        self._at(seconds, self._trained, seconds, tokens, staleness)

    def _oldest_trained(self) -> int:
        """With the rule `mask` older tokens stay in the batch and have no weight."""
        return self.version - self.fleet.limits.max_staleness if self.fleet.limits.stragglers == "mask" else 0

    def _trained(self, seconds: float, tokens: int, staleness: Sequence[int]) -> None:
        self.ledger.trained(self.version)
        size = self.fleet.limits.groups_per_batch
        self.outcome.steps.append(Step(self.now, seconds, size, tokens, staleness))
        self.version += 1
        self.training = False
        if self.version % self.fleet.checkpoint_every == 0:
            self.ledger.commit(self.version)
        self._publish()
        self._take()
        self._lease()

    # ---------------------------------------------------------------- weights

    def _publish(self) -> None:
        """Send the newest version, where none is on its way; those in between are skipped."""
        if self.sending:
            self.behind = True
            return
        self.sending, self.behind = True, False
        self._at(self.fleet.transfer_seconds, self._received, self.version)

    def _received(self, version: int) -> None:
        self.sending = False
        self.outcome.sent += 1
        for generator in self.generators:
            self._advance(generator)
            generator.version = version
            generator.since = self.now + self.fleet.pause_seconds
            if self.fleet.pause_seconds:
                self._schedule(generator)
        if self.behind:
            self._publish()
        self._lease()

    def held(self) -> dict[State, int]:
        """Groups by state, for tests."""
        return self.ledger.counts()
