"""`python -m benchmarks plan`: what `leeway plan` says, beside what is measured.

Synthetic fleets of several sizes over real sockets, whose generators and learner sleep instead of working, so that the
machine's speed stays out of it.
"""

import json as jsonlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from actors.fleet.learner import Pace
from actors.planning.architectures import architecture
from actors.planning.forecast import forecast, steps_that_tell
from actors.planning.rates import Assumptions, rates_of
from benchmarks import overlap
from benchmarks.terminal import console

#: How far a prediction may be off.
TARGET = 0.1
#: Tokens a second of a generator: so many that the fleet's groups a second are few for this machine.
SPEEDS = {8: 400, 64: 200, 200: 100, 1000: 40}
#: How long a step takes beside a batch's generation: the learner, or the generators, or neither is the bottleneck.
PACES = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure, as predicted and as measured."""

    name: str
    unit: str
    predicted: float
    measured: float

    @property
    def off(self) -> float:
        """Relative error."""
        return self.predicted / self.measured - 1

    def said(self) -> "Compared":
        """Itself, printed: a fleet takes minutes."""
        print(f"{self.name}: {self.predicted:.3g} predicted, {self.measured:.3g} {self.unit} measured", flush=True)
        return self


def speed_of(generators: int) -> int:
    """Tokens a second of each of so many generators."""
    return SPEEDS[min(SPEEDS, key=lambda count: abs(count - generators))]


def fleet(generators: int, pace: float, max_staleness: int) -> Compared:
    """Throughput of a synthetic fleet whose batch is one wave of all generators."""
    changes: dict[str, Any] = {
        "generators.count": generators,
        "generators.synthetic.tokens_per_second": speed_of(generators),
        "replay.groups_per_batch": generators,
        "replay.max_staleness": max_staleness,
    }
    seconds = pace * overlap.group_seconds(overlap.recipe_for(Path(), changes))
    recipe = overlap.recipe_for(Path(tempfile.gettempdir()), changes)
    a = architecture(recipe.model)
    rates = rates_of(recipe, a, Assumptions(step_seconds=seconds, verify_seconds=0.001))
    predicted = forecast(recipe, a, rates, generators)
    measured = overlap.measure("", Pace(seconds), changes, steps_that_tell(generators))
    name = f"{generators} generators, bound {max_staleness}, a step takes {seconds:.1f} s"
    return Compared(name, "groups/s", predicted.groups_per_second, measured.groups_per_second).said()


def run(json: Path | None, counts: Sequence[int]) -> bool:
    """Compare; returns whether every prediction is within the target."""
    found: list[Compared] = []
    for generators in counts:
        found += [fleet(generators, pace, overlap.STALENESS) for pace in PACES]
        found.append(fleet(generators, 1.0, 0))
    table = Table("", "", "predicted", "measured", "off", box=box.SIMPLE)
    for one in found:
        table.add_row(one.name, one.unit, f"{one.predicted:.3g}", f"{one.measured:.3g}", f"{one.off:+.1%}")
    console.print(table)
    print(f"target: {TARGET:.0%}")
    if json:
        json.write_text(jsonlib.dumps([asdict(one) | {"off": one.off} for one in found], indent=2))
    return all(abs(one.off) <= TARGET for one in found)
