"""`python -m benchmarks overlap`: how much of generation and training happens at the same time.

200 synthetic generators with long-tailed lengths, over real sockets and in real time; generation alone and training
alone take about as long. Work sleeps instead of burning, so that the machine's speed stays out of it. Throughput is
beside the bound min(generation, training), and beside the same system with `max_staleness: 0`, in which they alternate.
"""

import json as jsonlib
import random
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from actors.config.recipe import Recipe
from actors.config.roles import ReplayConfig
from actors.engines.distributions import draw_length
from actors.fleet.fleet import STARTUP_SECONDS, running
from actors.fleet.learner import Pace
from actors.fleet.recipe import fleet_recipe
from benchmarks.models import CACHE
from benchmarks.terminal import console
from benchmarks.throughput import Throughput

GENERATORS, GROUP_SIZE, STALENESS = 200, 4, 4
#: One wave of all generators is one batch.
BATCH = GENERATORS
#: Steps before the measurement begins, and steps that are measured.
WARM_UP, MEASURED = STALENESS + 2, 12
#: Longest time that the steps of one contender may take (s), beside three times what the learner takes for them.
PATIENCE_SECONDS = 600.0
TARGETS = {"of_bound": 0.95, "of_synchronous": 1.9}


@dataclass(frozen=True, slots=True)
class Measured:
    """Groups a second of one contender, and groups that were dropped for their age, as a share of all."""

    name: str
    groups_per_second: float
    stale: float


def recipe_for(folder: Path, changes: dict[str, Any]) -> Recipe:
    fixed = {
        "generators.count": GENERATORS,
        "generators.sampling.max_tokens": 100_000,
        "generators.synthetic": {
            "tokens_per_second": 100,
            "mean_tokens": 300,
            "lengths": "lognormal",
            "sigma": 0.8,
        },
        "replay.groups_per_batch": BATCH,
        "replay.group_size": GROUP_SIZE,
        "replay.max_staleness": STALENESS,
        "replay.drop_zero_variance": False,
        "membership": {"heartbeat_seconds": 2, "timeout_seconds": 30},
        "tasks.held_out": 1,
        "checkpoint_every_steps": 1,
    }
    return fleet_recipe(folder, list((fixed | changes).items()))


def group_seconds(recipe: Recipe) -> float:
    """Mean time of one group: as long as the longest of its completions."""
    config, source = recipe.generators.synthetic, random.Random(0)
    longest = [max(draw_length(config, source) for _ in range(GROUP_SIZE)) for _ in range(20_000)]
    return statistics.mean(longest) / config.tokens_per_second


def measure(name: str, pace: Pace, changes: dict[str, Any], measured: int = MEASURED) -> Measured:
    """Throughput of one fleet over so many steps, after those in which it fills up."""
    folder = Path(tempfile.mkdtemp(prefix="leeway-overlap-"))
    recipe = recipe_for(folder, changes)
    with running(recipe, folder, CACHE, pace) as fleet:
        fleet.wait_for_step(WARM_UP, STARTUP_SECONDS + PATIENCE_SECONDS)
        begin = Throughput(folder).steps()[-1][0]
        fleet.wait_for_step(WARM_UP + measured, PATIENCE_SECONDS + 3 * measured * pace.step_seconds)
        steps = Throughput(folder).steps()
        fleet.end()
        groups = fleet.last_counters()
    stale = groups["dropped"].get("stale", 0) / groups["issued"]
    return Measured(name, Throughput(folder).between(begin, steps[-1][0]), stale)


def rules() -> list[str]:
    """The rules for stragglers that there are."""
    field = ReplayConfig.model_fields.get("stragglers")
    return list(field.annotation.__args__) if field is not None and field.annotation is not None else ["drop"]


def run(json: Path | None) -> None:
    """Measure generation alone, every rule, and the synchronous system; print their shares of the bound."""
    step_seconds = BATCH * group_seconds(recipe_for(Path(), {})) / GENERATORS
    training = BATCH / step_seconds
    pace = Pace(step_seconds)
    print(f"a step takes {step_seconds:.1f} s, and so does a batch of {BATCH} groups on {GENERATORS} generators")
    generation = measure("generation alone", Pace(0.0), {"replay.max_staleness": 32})
    bound = min(generation.groups_per_second, training)
    found = [
        generation,
        *(
            measure(f"stragglers: {rule}", pace, {"replay.stragglers": rule} if len(rules()) > 1 else {})
            for rule in rules()
        ),
        measure("max_staleness: 0", pace, {"replay.max_staleness": 0}),
    ]
    synchronous = found[-1].groups_per_second
    console.print(table(found, training, bound))
    print(f"targets: {TARGETS['of_bound']:.0%} of the bound, {TARGETS['of_synchronous']} times synchronous")
    if json:
        figures = {
            "generators": GENERATORS,
            "training": training,
            "bound": bound,
            "measured": [
                asdict(m)
                | {"of_bound": m.groups_per_second / bound, "of_synchronous": m.groups_per_second / synchronous}
                for m in found
            ],
        }
        json.write_text(jsonlib.dumps(figures, indent=2))


def table(found: list[Measured], training: float, bound: float) -> Table:
    synchronous = found[-1].groups_per_second
    made = Table("", "groups/s", "of the bound", "of synchronous", "stale", box=box.SIMPLE)
    made.add_row("training alone", f"{training:.1f}", f"{training / bound:.0%}", "", "")
    for m in found:
        rate = m.groups_per_second
        made.add_row(m.name, f"{rate:.1f}", f"{rate / bound:.0%}", f"{rate / synchronous:.2f}", f"{m.stale:.1%}")
    return made
