"""What a recipe's fleet will do: throughput, bottleneck, staleness, bandwidth, cost."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from actors.config.recipe import Recipe
from actors.errors import RecipeError
from actors.planning.architectures import ModelShape
from actors.planning.costs import update_bytes
from actors.planning.rates import Rates
from actors.planning.simulation import SimulatedFleet, SimulatedRun, simulate
from actors.replay.limits import ReplayLimits

#: Steps that are simulated after those in which the fleet fills up, and groups: chance decides about fewer.
MEASURED, LEAST_GROUPS = 12, 1000
#: Those of a synchronous fleet, unless they have more groups.
SYNCHRONOUS_STEPS, SYNCHRONOUS_GROUPS = 200, 50_000
#: Groups that are simulated at most: beyond it a fleet is simulated as a part of itself, with batches of at least ...
MOST_GROUPS, LEAST_BATCH = 12_000, 128
#: A pool that works so much of the time has no more to give, and one that is starved so much waits for the others.
SATURATED, STARVED = 0.95, 0.02


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a fleet of so many generators will do.

    Attributes:
        groups_per_second, tokens_per_second: trained.
        step_seconds: from step to step (s).
        bottleneck: what to have more of.
        staleness_mean, staleness_max: of the groups' oldest tokens (versions).
        dropped: share of the groups by reason.
        queue: groups that are ready and wait for the learner, in the mean.
        busy: share of the time that a pool works.
        bandwidth: mean of the weight updates (bytes/s), counted once for all receivers.
        hours: of the recipe's steps (h).
        device_hours: of GPUs, or where the recipe asks for none of CPUs (h).
    """

    generators: int
    groups_per_second: float
    tokens_per_second: float
    step_seconds: float
    bottleneck: str
    staleness_mean: float
    staleness_max: int
    dropped: Mapping[str, float]
    queue: float
    busy: Mapping[str, float]
    bandwidth: float
    hours: float
    device_hours: float


def fleet_of(recipe: Recipe, rates: Rates, generators: int) -> SimulatedFleet:
    """What is simulated of a recipe."""
    r, size = recipe.replay, recipe.replay.group_size
    if not generators or not recipe.verifiers.count:
        raise RecipeError("generators.count or verifiers.count is 0: nothing will ever be trained; name at least one")
    return SimulatedFleet(
        generators=generators,
        groups_in_flight=recipe.generators.groups_in_flight,
        sequences=rates.sequences,
        rate=rates.rate,
        length=rates.length,
        mixed=lambda source: rates.mixed(size, source),
        group_size=size,
        verifiers=recipe.verifiers.count,
        verify_seconds=rates.verify_seconds,
        step_seconds=rates.step_seconds,
        transfer_seconds=rates.transfer_seconds,
        pause_seconds=rates.pause_seconds,
        limits=ReplayLimits(
            max_staleness=r.max_staleness,
            groups_per_batch=r.groups_per_batch,
            drop_zero_variance=r.drop_zero_variance,
            stragglers=r.stragglers,
        ),
        checkpoint_every=max(1, recipe.checkpoint_every_steps),
    )


def scaled(fleet: SimulatedFleet, steps: int) -> tuple[SimulatedFleet, int]:
    """A fleet that behaves as this one with fewer events: a k-th of its generators, verifiers and batch, where a step
    takes as long. Returns k, too.
    """
    batch = fleet.limits.groups_per_batch
    k = min(batch * steps // MOST_GROUPS, batch // LEAST_BATCH, fleet.generators, fleet.verifiers)
    if k < 2:
        return fleet, 1
    part = replace(
        fleet,
        generators=round(fleet.generators / k),
        verifiers=max(1, round(fleet.verifiers / k)),
        step_seconds=lambda tokens: fleet.step_seconds(k * tokens),
        limits=replace(fleet.limits, groups_per_batch=round(batch / k)),
    )
    return part, k


def steps_that_tell(groups_per_batch: int) -> int:
    """Steps of so many groups whose throughput is not left to chance."""
    return max(MEASURED, -(-LEAST_GROUPS // groups_per_batch))


def _simulated_steps(recipe: Recipe) -> int:
    """Steps of a forecast. Where each one waits for the longest of all its completions, chance moves it far."""
    batch = recipe.replay.groups_per_batch
    told = steps_that_tell(batch)
    return told if recipe.replay.max_staleness else max(told, min(SYNCHRONOUS_STEPS, SYNCHRONOUS_GROUPS // batch))


def forecast(recipe: Recipe, a: ModelShape, rates: Rates, generators: int, seed: int = 0) -> Forecast:
    """Simulate the fleet, and say what it does once it is filled.

    Args:
        recipe: of the run, whose number of generators counts for nothing.
        a: the model.
        rates: how fast the parts are.
        generators: how many.
        seed: of lengths and pass rates.

    Raises:
        RecipeError: hardly a batch comes together.
    """
    fleet, warm_up = fleet_of(recipe, rates, generators), recipe.replay.max_staleness + 2
    total = warm_up + _simulated_steps(recipe)
    part, k = scaled(fleet, total) if recipe.replay.max_staleness else (fleet, 1)
    outcome = simulate(part, total, seed)
    if len(outcome.steps) < total:
        raise RecipeError(
            "replay.drop_zero_variance: hardly a group has mixed rewards at this pass rate, so that no batch comes "
            "together; give easier tasks"
        )
    begun, steps = outcome.steps[warm_up - 1].ended, outcome.steps[warm_up:]
    interval = (steps[-1].ended - begun) / len(steps)
    ages = [age for step in steps for age in step.staleness]
    hours = recipe.steps * interval / 3600
    return Forecast(
        generators=generators,
        groups_per_second=k * sum(step.groups for step in steps) / len(steps) / interval,
        tokens_per_second=k * sum(step.tokens for step in steps) / len(steps) / interval,
        step_seconds=interval,
        bottleneck=bottleneck(part, outcome, sum(step.seconds for step in steps) / len(steps) / interval),
        staleness_mean=sum(ages) / len(ages),
        staleness_max=max(ages),
        dropped={reason: count / outcome.issued for reason, count in outcome.dropped.items()},
        queue=k * outcome.ready / outcome.seconds,
        busy=_busy(part, outcome),
        bandwidth=update_bytes(recipe, a) * outcome.sent / outcome.seconds,
        hours=hours,
        device_hours=hours * devices(recipe, generators),
    )


def devices(recipe: Recipe, generators: int) -> float:
    """GPUs of a fleet, or CPUs where the recipe asks for no GPU."""
    g, learner = recipe.generators, recipe.learner
    if g.gpus or learner.gpus:
        scorers = recipe.scorers.count if recipe.has_scorers else 0
        return generators * g.gpus + learner.ranks * learner.gpus + scorers * recipe.scorers.gpus
    return recipe.cpus + (generators - g.count) * g.cpus


def _busy(fleet: SimulatedFleet, outcome: SimulatedRun) -> dict[str, float]:
    members = {"generator": fleet.generators, "verifier": fleet.verifiers, "learner": 1}
    return {role: min(1.0, seconds / members[role] / outcome.seconds) for role, seconds in outcome.busy.items()}


def bottleneck(fleet: SimulatedFleet, outcome: SimulatedRun, learning: float) -> str:
    """What the throughput depends on.

    Args:
        fleet, outcome: what was simulated.
        learning: share of the time in which a step was made, once the fleet was filled.
    """
    if learning >= SATURATED:
        return "learner"
    if _busy(fleet, outcome)["verifier"] >= SATURATED:
        return "verifiers"
    if outcome.starved / fleet.generators / outcome.seconds > STARVED:
        return "staleness bound"
    return "generators"
