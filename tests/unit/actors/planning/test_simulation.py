"""Laws of the simulated fleet."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.planning.simulation import SimulatedFleet, simulate
from actors.replay.limits import ReplayLimits

MEAN = 100


def fleet(
    generators: int = 8,
    batch: int = 8,
    step_seconds: float = 1.0,
    max_staleness: int = 2,
    stragglers: Any = "drop",
    rate: Callable[[int], float] = lambda _: 100.0,
    mixed: float = 1.0,
    **changes: Any,
) -> SimulatedFleet:
    settings: dict[str, Any] = {
        "groups_in_flight": 1,
        "sequences": 2**31,
        "length": lambda source: source.randint(1, 2 * MEAN - 1),
        "group_size": 2,
        "verifiers": 2,
        "verify_seconds": 0.001,
        "transfer_seconds": 0.01,
        "pause_seconds": 0.0,
    }
    return SimulatedFleet(
        generators=generators,
        rate=rate,
        mixed=lambda source: source.random() < mixed,
        step_seconds=lambda _: step_seconds,
        limits=ReplayLimits(max_staleness, batch, drop_zero_variance=mixed < 1, stragglers=stragglers),
        **{**settings, **changes},
    )


@settings(max_examples=30, deadline=None)
@given(
    generators=st.integers(1, 12),
    in_flight=st.integers(1, 4),
    batch=st.integers(1, 12),
    bound=st.integers(0, 4),
    step_seconds=st.floats(0.0, 3.0),
    transfer=st.floats(0.0, 3.0),
    pause=st.floats(0.0, 0.5),
    stragglers=st.sampled_from(["drop", "wait", "mask"]),
    mixed=st.sampled_from([1.0, 0.6]),
    seed=st.integers(0, 100),
)
def test_nothing_is_over_the_bound_and_nothing_faster_than_its_parts(
    generators: int,
    in_flight: int,
    batch: int,
    bound: int,
    step_seconds: float,
    transfer: float,
    pause: float,
    stragglers: Any,
    mixed: float,
    seed: int,
) -> None:
    made = fleet(
        generators,
        batch,
        step_seconds,
        bound,
        stragglers,
        mixed=mixed,
        groups_in_flight=in_flight,
        transfer_seconds=transfer,
        pause_seconds=pause,
        sequences=3,
    )
    outcome = simulate(made, 6, seed)
    assert len(outcome.steps) == 6
    assert all(0 <= age <= bound for step in outcome.steps for age in step.staleness)
    trained = sum(step.tokens for step in outcome.steps)
    assert trained <= outcome.generated <= outcome.seconds * generators * min(3, 2 * in_flight) * 100.0 + 1e-6
    assert 6 * step_seconds <= outcome.seconds + 1e-6
    assert all(outcome.busy[role] <= outcome.seconds * count + 1e-6 for role, count in (("generator", generators),))


def test_the_slower_part_decides() -> None:
    """Groups of two uniform lengths of 100 tokens in the mean take 1.33 s; 8 generators make 6 a second."""
    slow_learner = simulate(fleet(step_seconds=4.0, max_staleness=4), 30)
    assert slow_learner.steps[-1].ended - slow_learner.steps[9].ended == pytest.approx(20 * 4.0)
    slow_generators = simulate(fleet(step_seconds=0.1, max_staleness=4), 30)
    interval = (slow_generators.steps[-1].ended - slow_generators.steps[9].ended) / 20
    assert interval == pytest.approx(8 * 1.333 / 8, rel=0.1)
    slow_verifiers = simulate(fleet(step_seconds=0.1, verifiers=1, verify_seconds=1.0), 30)
    interval = (slow_verifiers.steps[-1].ended - slow_verifiers.steps[9].ended) / 20
    assert interval == pytest.approx(8.0, rel=0.05)


def test_without_staleness_generation_and_training_alternate() -> None:
    outcome = simulate(fleet(step_seconds=2.0, max_staleness=0, length=lambda _: MEAN, transfer_seconds=0.5), 10)
    gaps = [b.ended - a.ended for a, b in zip(outcome.steps, outcome.steps[1:], strict=False)]
    assert gaps == pytest.approx([1.0 + 2.0 + 0.5 + 0.004] * 9, rel=0.01)
    assert outcome.starved > 0


def test_sequences_share_a_generator() -> None:
    """Two sequences of 100 tokens at 100 tokens a second together take 2 s; one after the other as long."""
    shared = simulate(fleet(1, 1, 0.0, 4, rate=lambda n: 100.0 / n, length=lambda _: MEAN, verify_seconds=0.0), 1)
    assert shared.seconds == pytest.approx(2.0)
    queued = simulate(fleet(1, 1, 0.0, 4, sequences=1, length=lambda _: MEAN, verify_seconds=0.0), 1)
    assert queued.seconds == pytest.approx(2.0)


def test_a_pause_holds_generation_up() -> None:
    settings: dict[str, Any] = {"length": lambda _: MEAN, "verify_seconds": 0.0, "transfer_seconds": 0.0}
    free = simulate(fleet(1, 1, 0.0, 4, **settings), 10)
    paused = simulate(fleet(1, 1, 0.0, 4, pause_seconds=0.25, **settings), 10)
    assert free.seconds == pytest.approx(10.0)
    assert paused.seconds == pytest.approx(10.0 + 9 * 0.25)


def test_a_fleet_whose_groups_are_all_dropped_comes_to_an_end() -> None:
    assert simulate(fleet(mixed=0.0), 3).steps == []


def test_equal_seeds_give_equal_fleets() -> None:
    first, again, other = (simulate(fleet(), 5, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_groups_of_long_tails_are_dropped_or_waited_for() -> None:
    def tail(source: random.Random) -> int:
        return 5000 if source.random() < 0.02 else MEAN

    dropped, waited = (simulate(fleet(16, 8, 0.1, 1, rule, length=tail), 40) for rule in ("drop", "wait"))
    assert dropped.dropped["stale"] > 0
    assert waited.dropped == {}
    assert waited.seconds > dropped.seconds
