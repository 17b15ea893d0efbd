"""Rates as a run has measured them, from its folder."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actors.config.loading import RECIPE, load
from actors.config.recipe import Recipe
from actors.config.roles import SyntheticConfig
from actors.errors import RecipeError
from actors.events import Event, RolloutSample, StepDone, Tick, WeightSync
from actors.planning.rates import Rates
from actors.planning.simulation import SimulatedFleet, simulate
from actors.replay.limits import ReplayLimits
from actors.report.writer import read_back

#: Steps without which nothing is known, and samples without which the spread of lengths stays as assumed.
STEPS, SAMPLES = 3, 20
#: Groups of the one generator that a measured speed is brought to.
CALIBRATED = 400


@dataclass(frozen=True, slots=True)
class MeasuredRates:
    """What a run has measured.

    Attributes:
        token_seconds: of the learner, a trained token (s).
        tokens_per_second: of one generator while it works.
        in_flight: groups that one generator has at a time.
        mean_tokens, sigma: of a completion's length; sigma is None where too few samples were kept.
        zero_variance: share of the verified groups that was dropped, since their rewards were equal.
        transfer_seconds, pause_seconds: medians of the weight updates (s); None where there was none.
    """

    token_seconds: float
    tokens_per_second: float
    in_flight: float
    mean_tokens: float
    sigma: float | None
    zero_variance: float
    transfer_seconds: float | None
    pause_seconds: float | None


def measured(folder: Path) -> MeasuredRates:
    """What the run in a folder has measured; what came before its first step counts for nothing.

    Raises:
        RecipeError: it is no run folder, or has too few steps.
    """
    if not (folder / RECIPE).is_file():
        raise RecipeError(f"--from: {folder} is no run folder (it has no {RECIPE})")
    recipe, events = load(folder / RECIPE), read_back(folder)
    steps = [event for event in events if isinstance(event, StepDone)]
    if len(steps) < STEPS:
        raise RecipeError(f"--from: {folder} has {len(steps)} steps; a plan needs {STEPS} to know how long one takes")
    ticks = [event for event in events if isinstance(event, Tick) and event.seconds >= steps[0].seconds]
    tokens, seconds = sum(sum(step.staleness.values()) for step in steps), sum(step.step_seconds for step in steps)
    syncs = [event for event in events if isinstance(event, WeightSync)]
    completions = len(steps) * recipe.replay.groups_per_batch * recipe.replay.group_size
    speed, in_flight = _generation(recipe, ticks, folder)
    return MeasuredRates(
        token_seconds=seconds / max(1, tokens),
        tokens_per_second=speed,
        in_flight=in_flight,
        mean_tokens=tokens / completions,
        sigma=_sigma(events),
        zero_variance=_zero_variance(ticks),
        transfer_seconds=statistics.median(sync.transfer_seconds for sync in syncs) if syncs else None,
        pause_seconds=statistics.median(sync.pause_seconds for sync in syncs) if syncs else None,
    )


def _generation(recipe: Recipe, ticks: Sequence[Tick], folder: Path) -> tuple[float, float]:
    """Tokens a second of a generator that works, and groups that it has in flight."""
    busy = sum(tick.busy.get("generator", 0.0) * tick.interval_seconds for tick in ticks) * recipe.generators.count
    tokens = sum(tick.tokens_per_second.get("generation", 0.0) * tick.interval_seconds for tick in ticks)
    if not busy or not tokens:
        raise RecipeError(f"--from: {folder} has not recorded what its generators did between its steps")
    weight = sum(tick.interval_seconds for tick in ticks)
    groups = sum(tick.groups.in_flight * tick.interval_seconds for tick in ticks) / weight
    share = busy / weight / recipe.generators.count
    in_flight = groups / recipe.generators.count / share
    return tokens / busy, min(float(recipe.generators.groups_in_flight), max(1.0, in_flight))


def _sigma(events: Sequence[Event]) -> float | None:
    lengths = [sum(count for _, count in event.spans) for event in events if isinstance(event, RolloutSample)]
    logs = [math.log(length) for length in lengths if length]
    return statistics.stdev(logs) if len(logs) >= SAMPLES else None


def _zero_variance(ticks: Sequence[Tick]) -> float:
    groups = ticks[-1].groups
    dropped = groups.dropped.get("zero_variance", 0)
    kept = groups.ready + groups.delivered + groups.trained + groups.committed + groups.dropped.get("stale", 0)
    return dropped / max(1, dropped + kept)


def as_measured(rates: Rates, recipe: Recipe, found: MeasuredRates, name: str) -> Rates:
    """The rates of a recipe with what a run has measured in the place of what was assumed.

    A sequence is as fast as in that run while a generator has no more of them than it had there; beyond that they share
    its speed.
    """
    lengths = rates.lengths
    if recipe.generators.engine != "synthetic":
        sigma = lengths.sigma if found.sigma is None else found.sigma
        lengths = SyntheticConfig(mean_tokens=found.mean_tokens, sigma=sigma)
    known = replace(
        rates,
        lengths=lengths,
        mixed_share=1 - found.zero_variance,
        step_seconds=lambda tokens: tokens * found.token_seconds,
        transfer_seconds=rates.transfer_seconds if found.transfer_seconds is None else found.transfer_seconds,
        pause_seconds=rates.pause_seconds if found.pause_seconds is None else found.pause_seconds,
        origin=(f"lengths, speeds and weight updates: measured by {name}", rates.origin[1]),
    )
    sequences = max(1, round(found.in_flight * recipe.replay.group_size))
    scale = found.tokens_per_second / _unit_speed(known, recipe, round(found.in_flight))

    def rate(count: int) -> float:
        return scale * min(1.0, sequences / count)

    return replace(known, rate=rate)


def _unit_speed(rates: Rates, recipe: Recipe, in_flight: int) -> float:
    """Tokens a second of one generator that always has so many groups, where a sequence makes one token a second."""
    size = recipe.replay.group_size
    fleet = SimulatedFleet(
        generators=1,
        groups_in_flight=in_flight,
        sequences=2**31,
        rate=lambda _: 1.0,
        length=rates.length,
        mixed=lambda _: True,
        group_size=size,
        verifiers=1,
        verify_seconds=0.0,
        step_seconds=lambda _: 0.0,
        transfer_seconds=0.0,
        pause_seconds=0.0,
        limits=ReplayLimits(max_staleness=2**20, groups_per_batch=1, drop_zero_variance=False),
    )
    outcome = simulate(fleet, CALIBRATED)
    return outcome.generated / outcome.busy["generator"]
