"""The policy against simulated fleets: it reaches what is needed in minutes, and then leaves it alone."""

from dataclasses import dataclass
from itertools import pairwise

import pytest

from actors.config.cluster import AutoscaleConfig, PoolBounds
from actors.control.autoscaler import Autoscaler, Signals, generators_for, scorers_for, verifiers_for

HOLD, COOL_DOWN = 30.0, 120.0
BATCH, STALENESS = 64, 4
BOUND = (STALENESS + 1) * BATCH
CALM = Signals(unverified=0.0, verifiers_busy=0.6, learner_waits=0.0, slots_full=0.9, headroom=0.5)


@dataclass
class SimulatedFleet:
    """Pools as flows of groups a second: each generator `generation`, each verifier `verification`, each scorer
    `scoring`, the learner `learning`. Verifiers wait for scorers. Processes come up after `startup` seconds; groups
    that are not trained yet are never above the bound.
    """

    generation: float
    verification: float
    learning: float
    startup: float = 60.0
    scoring: float = float("inf")
    unverified: float = 0.0
    ready: float = 0.0

    def run(self, scaler: Autoscaler, counts: dict[str, int], minutes: float) -> list[tuple[float, str, int]]:
        """Let it run; the changes as (seconds, pool, count)."""
        changes, coming = [], [(0.0, dict(counts))]
        for now in range(int(60 * minutes)):
            up = [there for moment, there in coming if now - moment >= self.startup] or [coming[0][1]]
            for pool, count in scaler.decide(self.second(up[-1]), counts, float(now)).items():
                counts[pool] = count
                changes.append((float(now), pool, count))
                coming.append((float(now), dict(counts)))
        return changes

    def second(self, up: dict[str, int]) -> Signals:
        room = max(0.0, BOUND - self.unverified - self.ready)
        possible = up["generator"] * self.generation
        generated = min(possible, room)
        self.unverified += generated
        alone, scored = up["verifier"] * self.verification, up.get("scorer", 1) * self.scoring
        verified = min(alone, scored, self.unverified)
        self.unverified -= verified
        self.ready += verified
        trained = min(self.learning, self.ready)
        self.ready -= trained
        return Signals(
            unverified=self.unverified / BATCH,
            verifiers_busy=verified / min(alone, scored),
            learner_waits=1 - trained / self.learning,
            slots_full=generated / possible,
            headroom=max(0.0, 1 - (self.unverified + self.ready) / BOUND),
            scorers_busy=verified / scored,
        )


def autoscaler(most: int = 64) -> Autoscaler:
    bounds = PoolBounds(min=1, max=most)
    return Autoscaler(
        AutoscaleConfig(
            generators=bounds, verifiers=bounds, scorers=bounds, hold_seconds=HOLD, cooldown_seconds=COOL_DOWN
        )
    )


@pytest.mark.parametrize("generators", [1, 2, 8, 30])
@pytest.mark.parametrize("verifiers", [1, 4, 16])
def test_from_anywhere_it_reaches_what_the_learner_needs_and_stays(generators: int, verifiers: int) -> None:
    fleet = SimulatedFleet(generation=1.0, verification=4.0, learning=16.0)
    counts = {"generator": generators, "verifier": verifiers}
    changes = fleet.run(autoscaler(), counts, 30)
    assert 15 <= counts["generator"] <= 27, "16 are needed; above 60 % of their slots full they are left alone"
    assert 4 <= counts["verifier"] <= 14, "4 are needed"
    assert all(moment < 20 * 60 for moment, _, _ in changes), f"it does not come to rest: {changes}"
    signals = fleet.second(counts)
    assert signals.learner_waits <= 0.1


@pytest.mark.parametrize("scorers", [1, 3, 16])
@pytest.mark.parametrize("verifiers", [3, 16])
def test_scorers_that_are_too_few_become_more_and_not_those_who_wait_for_them(scorers: int, verifiers: int) -> None:
    fleet = SimulatedFleet(generation=1.0, verification=8.0, learning=16.0, scoring=4.0)
    counts = {"generator": 18, "verifier": verifiers, "scorer": scorers}
    changes = fleet.run(autoscaler(), counts, 60)
    assert 4 <= counts["scorer"] <= 14, "4 are needed"
    assert 2 <= counts["verifier"] <= verifiers, "there were enough from the start"
    assert all(moment < 40 * 60 for moment, _, _ in changes), f"it does not come to rest: {changes}"
    assert fleet.second(counts).learner_waits <= 0.1


def test_scorers_without_bounds_stay_and_nobody_is_added_who_would_wait_for_them() -> None:
    bounds = PoolBounds(min=1, max=64)
    scaler = Autoscaler(AutoscaleConfig(generators=bounds, verifiers=bounds, hold_seconds=HOLD))
    slow = Signals(3.0, verifiers_busy=1.0, learner_waits=0.5, slots_full=1.0, headroom=0.2, scorers_busy=0.97)
    assert scorers_for(slow, 2) == 4
    assert decided(scaler, slow, {"generator": 4, "verifier": 2, "scorer": 2}, 0, 1000) == {}


@pytest.mark.parametrize("generators", [1, 40])
def test_it_does_not_swing(generators: int) -> None:
    fleet = SimulatedFleet(generation=1.0, verification=4.0, learning=16.0)
    counts = {"generator": generators, "verifier": 8}
    sizes = [generators, *(c for _, pool, c in fleet.run(autoscaler(), counts, 60) if pool == "generator")]
    directions = [after > before for before, after in pairwise(sizes)]
    assert directions and len(set(directions)) == 1, f"up and down again: {sizes}"


def test_from_one_generator_it_reaches_a_bound_of_eight_within_ten_minutes() -> None:
    fleet = SimulatedFleet(generation=1.0, verification=16.0, learning=100.0)
    counts = {"generator": 1, "verifier": 1}
    changes = [c for c in fleet.run(autoscaler(most=8), counts, 30) if c[1] == "generator"]
    assert [count for _, _, count in changes] == [2, 4, 8]
    assert changes[-1][0] <= 10 * 60


def test_a_learner_that_becomes_slower_needs_fewer() -> None:
    fleet = SimulatedFleet(generation=1.0, verification=4.0, learning=16.0)
    scaler, counts = autoscaler(), {"generator": 16, "verifier": 5}
    assert fleet.run(scaler, counts, 20) == []
    fleet.learning = 4.0
    later = SimulatedFleet(1.0, 4.0, 4.0, unverified=fleet.unverified, ready=fleet.ready)
    later.run(autoscaler(), counts, 30)
    assert 4 <= counts["generator"] <= 7


def decided(scaler: Autoscaler, signals: Signals, counts: dict[str, int], start: int, seconds: int) -> dict[str, int]:
    for now in range(start, start + seconds):
        if found := scaler.decide(signals, counts, float(now)):
            return found
    return {}


WAITING = Signals(unverified=0.0, verifiers_busy=0.6, learner_waits=0.5, slots_full=1.0, headroom=0.9)


def test_what_does_not_last_changes_nothing() -> None:
    scaler, counts = autoscaler(), {"generator": 4, "verifier": 2}
    for start in range(0, 600, 40):  # always interrupted before it has held
        assert decided(scaler, WAITING, counts, start, int(HOLD) - 1) == {}
        assert decided(scaler, CALM, counts, start + int(HOLD) - 1, 11) == {}
    assert decided(scaler, WAITING, counts, 600, 60) == {"generator": 8}


def test_after_a_change_a_pool_is_left_alone_for_a_while() -> None:
    scaler, counts = autoscaler(), {"generator": 4, "verifier": 2}
    assert decided(scaler, WAITING, counts, 0, 60) == {"generator": 8}
    counts["generator"] = 8
    assert decided(scaler, WAITING, counts, 60, int(COOL_DOWN) - 35) == {}
    assert decided(scaler, WAITING, counts, 145, 60) == {"generator": 16}


def test_bounds_hold_at_once() -> None:
    config = AutoscaleConfig(generators=PoolBounds(min=2, max=3), verifiers=PoolBounds(min=1, max=1))
    assert Autoscaler(config).decide(CALM, {"generator": 9, "verifier": 1}, 0.0) == {"generator": 3}
    assert Autoscaler(config).decide(CALM, {"generator": 1, "verifier": 1}, 0.0) == {"generator": 2}
    assert decided(Autoscaler(config), WAITING, {"generator": 3, "verifier": 1}, 0, 1000) == {}


def test_a_learner_that_waits_for_verdicts_gets_verifiers_and_not_generators() -> None:
    behind = Signals(unverified=3.0, verifiers_busy=1.0, learner_waits=0.5, slots_full=1.0, headroom=0.2)
    assert generators_for(behind, 4) == 4
    assert verifiers_for(behind, 2) == 4
    assert decided(autoscaler(), behind, {"generator": 4, "verifier": 2}, 0, 60) == {"verifier": 4}


def test_a_learner_that_waits_at_a_tight_bound_gets_nothing_more() -> None:
    """`max_staleness: 0`: everybody waits for each other, and more processes would not help."""
    tight = Signals(unverified=0.0, verifiers_busy=0.3, learner_waits=0.5, slots_full=0.5, headroom=0.0)
    assert generators_for(tight, 8) == 8
