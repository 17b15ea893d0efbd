"""How many generators, verifiers and scorers a run could use: a pure policy, from what the controller has seen of it.

It balances the pools against the learner, who alone sets the pace: more generators than it needs sit at the staleness
bound, fewer let it wait. The rule, for an operator to check at night:

    verifiers    grow    where groups wait for a verdict: more than one batch of them, and every verifier is busy
                         (>= 85 %); by as much as would bring the busy share to 70 %, but at most to twice as many.
                         Not while scorers are as busy as that: a verifier that waits for one looks busy, too.
                 shrink  where they are less than 40 % busy and less than a tenth of a batch waits; to 70 % busy.
    scorers      grow and shrink as verifiers do, by how busy they are themselves.
    generators   grow    where the learner waits more than 10 % of its time, the generators' slots are at least 85 %
                         full, and it is not the verifiers that are behind; to count / (1 - wait), which is as many as
                         would let it wait no more, but at most to twice as many.
                 shrink  where the learner waits less than 5 % of its time and either less than 60 % of their slots are
                         full, or less than a twentieth of the staleness bound is left for new groups; to as many as
                         would be 80 % full, but by one at least, and to half as many at most.

A pool changes only if the rule has said so for all of `hold_seconds`, in the same direction, and not within
`cooldown_seconds` of its last change: engines take minutes to come up, and what is seen meanwhile is of the old count.
Thresholds for growing and for shrinking are apart, and each aims well between them, so that no count is followed by
its opposite. The bounds `min` and `max` hold whatever is seen. Who is waited for is looked at before those who wait:
scorers, verifiers, generators. Within the cool-down of one, those behind it do not change.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from actors.config.cluster import AutoscaleConfig, PoolBounds
from actors.config.recipe import Recipe

#: Of verifiers and of scorers.
POOL_BUSY, POOL_AIM, POOL_IDLE = 0.85, 0.70, 0.40
SLOTS_FULL, SLOTS_AIM, SLOTS_EMPTY = 0.85, 0.80, 0.60
LEARNER_WAITS, LEARNER_SATISFIED = 0.10, 0.05
#: Share of the staleness bound below which generators wait for the learner rather than the other way round.
NO_HEADROOM = 0.05
#: A pool grows and shrinks at most by this factor at a time.
MOST_AT_ONCE = 2.0


@dataclass(frozen=True, slots=True)
class Signals:
    """What was seen of a run in one interval.

    Attributes:
        unverified: groups that wait for a verdict, in batches.
        verifiers_busy: share of the interval in which verifiers worked.
        learner_waits: share of the interval in which the learner had no batch.
        slots_full: groups that are being generated, as a share of those that all generators could take.
        headroom: share of the staleness bound that is left for new groups.
        scorers_busy: share of the interval in which scorers worked; 0 in a run that has none.
    """

    unverified: float
    verifiers_busy: float
    learner_waits: float
    slots_full: float
    headroom: float
    scorers_busy: float = 0.0


def signals_of(
    recipe: Recipe, status: Mapping[str, Any], busy: Mapping[str, float], members: Sequence[Mapping[str, Any]]
) -> Signals:
    """The signals in what the controller knows.

    Args:
        recipe: of the run.
        status: the replay's answer to `status`.
        busy: share of the interval in which each role worked.
        members: the list of members, with their reports.
    """
    replay, groups = recipe.replay, status["groups"]
    generators = [member["report"] for member in members if member["role"] == "generator"]
    slots = len(generators) * recipe.generators.groups_in_flight
    bound = (replay.max_staleness + 1) * replay.groups_per_batch
    untrained = groups["in_flight"] + groups["ready"] + groups["delivered"]
    return Signals(
        unverified=status["queues"]["generated"] / replay.groups_per_batch,
        verifiers_busy=busy["verifier"],
        learner_waits=1 - busy["learner"],
        slots_full=sum(report["groups_in_flight"] for report in generators) / slots if slots else 0.0,
        headroom=max(0.0, 1 - untrained / bound),
        scorers_busy=busy.get("scorer", 0.0),
    )


@dataclass(slots=True)
class PoolHistory:
    """When a pool was changed last, and since when the rule has wanted which direction (s)."""

    changed: float = float("-inf")
    direction: int = 0
    since: float = 0.0


@dataclass(slots=True)
class Autoscaler:
    """See the module's docstring. Times are seconds of one monotonic clock, in order."""

    config: AutoscaleConfig
    _histories: dict[str, PoolHistory] = field(default_factory=lambda: {pool: PoolHistory() for pool in RULES})

    def decide(self, signals: Signals, counts: Mapping[str, int], now: float) -> dict[str, int]:
        """The counts that are to change, by pool.

        Args:
            signals: of the last interval.
            counts: how many there are to be of each pool by now, also of those that have not come up.
            now: the moment.
        """
        changed = float("-inf")  # when one that is looked at before was
        for pool, rule in RULES.items():
            if (bounds := self.config.bounds(pool)) is None or pool not in counts:
                continue
            # Soon after such a change, what is seen of this pool is still of the old counts.
            wanted = counts[pool] if now - changed < self.config.cooldown_seconds else rule(signals, counts[pool])
            history = self._histories[pool]
            if (decided := self._when_held(history, bounds, counts[pool], wanted, now)) is not None:
                return {pool: decided}
            changed = max(changed, history.changed)
        return {}

    def _when_held(self, pool: PoolHistory, bounds: PoolBounds, count: int, wanted: int, now: float) -> int | None:
        """The count that a pool is to have; None where it stays as it is for now."""
        if not bounds.min <= count <= bounds.max:  # at once: it was an operator who set them
            pool.changed = now
            return min(max(count, bounds.min), bounds.max)
        wanted = min(max(wanted, bounds.min), bounds.max)
        direction = (wanted > count) - (wanted < count)
        if direction != pool.direction:
            pool.direction, pool.since = direction, now
        held, cool = now - pool.since, now - pool.changed
        if not direction or held < self.config.hold_seconds or cool < self.config.cooldown_seconds:
            return None
        pool.changed, pool.direction = now, 0
        return wanted


def scorers_for(signals: Signals, count: int) -> int:
    """What the rule says of the scorers."""
    return _as_busy(signals.scorers_busy, signals.unverified, count)


def verifiers_for(signals: Signals, count: int) -> int:
    """What the rule says of the verifiers."""
    wanted = _as_busy(signals.verifiers_busy, signals.unverified, count)
    return min(wanted, count) if signals.scorers_busy >= POOL_BUSY else wanted


def _as_busy(busy: float, unverified: float, count: int) -> int:
    """How many would do, of a pool that is busy for so much of its time while so many batches wait for a verdict."""
    if unverified > 1 and busy >= POOL_BUSY:
        # All are busy, so how many would do is not to be seen: the queue says that these do not.
        return _up(count, count * max(busy / POOL_AIM, 1 + min(1.0, unverified / 4)))
    if busy < POOL_IDLE and unverified < 0.1:
        return _down(count, count * busy / POOL_AIM)
    return count


def generators_for(signals: Signals, count: int) -> int:
    """What the rule says of the generators."""
    waits, behind = signals.learner_waits, signals.unverified > 1
    if waits > LEARNER_WAITS and signals.slots_full >= SLOTS_FULL and not behind:
        return _up(count, count / max(1 - waits, 1 / MOST_AT_ONCE))
    idle = signals.slots_full < SLOTS_EMPTY or signals.headroom < NO_HEADROOM
    if waits < LEARNER_SATISFIED and idle and not behind and signals.slots_full < SLOTS_AIM:
        return _down(count, count * signals.slots_full / SLOTS_AIM)
    return count


def _up(count: int, wanted: float) -> int:
    return min(max(count + 1, ceil(wanted)), ceil(MOST_AT_ONCE * count))


def _down(count: int, wanted: float) -> int:
    return max(min(count - 1, ceil(wanted)), ceil(count / MOST_AT_ONCE), 1)


#: In the order in which pools are looked at.
RULES: Mapping[str, Callable[[Signals, int], int]] = {
    "scorer": scorers_for,
    "verifier": verifiers_for,
    "generator": generators_for,
}
