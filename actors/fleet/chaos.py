"""A fleet under random faults, and whether every law holds afterwards."""

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.config.recipe import Recipe
from actors.fleet.faults import SLOW, Afflicted, Fault, Victim, schedule
from actors.fleet.fleet import STARTUP_SECONDS, running
from actors.fleet.laws import broken, notes_of
from actors.fleet.learner import Pace

#: After the last fault the run has so long to get on (s), by so many steps.
CALM_SECONDS, CALM_STEPS = 60.0, 3


@dataclass
class Aftermath:
    """What happened. `broken` has every law that does not hold, in words."""

    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0
    steps: int = 0
    controllers: int = 0
    groups: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def unleash(recipe: Recipe, folder: Path, models: Path, pace: Pace, seconds: float, seed: int) -> Aftermath:
    """Start a fleet, let the faults of a seed befall it for some time, let it recover, end it, and look at the laws.

    Raises:
        RunError: the run failed, did not get on after the faults, or did not end.
    """
    outcome = Aftermath()
    with running(recipe, folder, models, pace) as fleet:
        fleet.wait_for_step(1, STARTUP_SECONDS)
        began = time.monotonic()
        play(fleet, schedule(seed, seconds), outcome.faults)
        fleet.sleep_until(began + seconds)
        fleet.wait_for_step(fleet.step + CALM_STEPS, CALM_SECONDS)
        outcome.seconds = time.monotonic() - began
        fleet.end()
        outcome.steps, outcome.controllers, outcome.groups = fleet.step, fleet.controllers, fleet.last_counters()
        laws = broken(notes_of(folder), outcome.groups, fleet.snapshot(), bound=recipe.replay.max_staleness)
        outcome.broken = laws + [f"processes: {left} is left" for left in fleet.left()]
    return outcome


def play(run: Afflicted, faults: list[Fault], played: Counter[tuple[str, str]]) -> None:
    """Let the faults happen at their times; each is undone when its time is over, the last ones at once."""
    began, order = time.monotonic(), itertools.count()
    undoing: list[tuple[float, int, Callable[[], None]]] = []

    def undo(moment: float) -> None:
        while undoing and undoing[0][0] <= moment:
            due, _, action = heapq.heappop(undoing)
            run.sleep_until(began + due)
            action()

    for fault in faults:
        undo(fault.seconds)
        run.sleep_until(began + fault.seconds)
        if living := run.victims(fault.role):
            action = inflict(living[int(fault.pick * len(living))], fault)
            heapq.heappush(undoing, (fault.seconds + fault.lasts, next(order), action))
            played[fault.role, fault.kind] += 1
    while undoing:
        heapq.heappop(undoing)[2]()


def inflict(process: Victim, fault: Fault) -> Callable[[], None]:
    """Let a fault happen to a process; returns what undoes it."""
    match fault.kind:
        case "kill":
            process.kill()
            return lambda: None
        case "suspend":
            process.suspend(True)
            return lambda: process.suspend(False)
        case "cut":
            process.cut(True)
            return lambda: process.cut(False)
        case "slow":
            process.slow(SLOW)
            return lambda: process.slow(1.0)
