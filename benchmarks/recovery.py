"""`python -m benchmarks recovery`: after each kind of fault, how long until a fleet is as fast as before.

A synthetic fleet whose generators are the bottleneck, with lengths that do not vary, so that one that is missing shows.
A process of a role is killed, suspended, or cut off from the replay. Time counts from the kill, or from the end of a
suspension or cut, until the groups trained a second, over the next two seconds, are 90 % of those before: 0 where they
never fell. Processes are forked from a server that has imported everything: what an interpreter and an engine take to
come up is not in it, and is the same with every system.
"""

import json as jsonlib
import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from actors.fleet.chaos import inflict
from actors.fleet.faults import FAULTS, Fault, Kind
from actors.fleet.fleet import STARTUP_SECONDS, Fleet, running
from actors.fleet.learner import Pace
from actors.fleet.recipe import fleet_recipe
from benchmarks.models import CACHE
from benchmarks.terminal import console
from benchmarks.throughput import Throughput, first_moment

GENERATORS = 8
#: What counts as recovered: so much of the throughput before, over so many seconds.
SHARE, WINDOW_SECONDS = 0.9, 2.0
#: How long the throughput before a fault is measured (s), and the longest wait for it afterwards (s).
BEFORE_SECONDS, PATIENCE_SECONDS = 4.0, 180.0
LASTS_SECONDS = {"kill": 0.0, "suspend": 30.0, "cut": 30.0}
TARGET_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault. `recovery_seconds` is None where the fleet did not come back; `lost` is the share of the groups that
    were not trained while the fault lasted."""

    role: str
    kind: str
    recovery_seconds: float | None
    lost: float


def cases() -> list[tuple[str, Kind]]:
    """Every role that outlives faults, with the kinds that stop it."""
    return [(role, kind) for role, (_, kinds) in FAULTS.items() for kind in kinds if kind in LASTS_SECONDS]


def trial(fleet: Fleet, role: str, kind: Kind, pick: float) -> Trial:
    throughput = Throughput(fleet.folder)
    before = settled(fleet, throughput)
    lasts = LASTS_SECONDS[kind]
    living = fleet.victims(role)
    began = time.time()
    undo = inflict(living[int(pick * len(living))], Fault(0.0, role, kind, lasts, pick))
    fleet.sleep_until(time.monotonic() + lasts)
    undo()
    ended = time.time()
    back = first_moment(
        lambda moment: throughput.in_window(moment, WINDOW_SECONDS),
        SHARE * before,
        ended,
        WINDOW_SECONDS,
        PATIENCE_SECONDS,
    )
    lost = 1 - throughput.in_window(began, lasts) / before if lasts else 0.0
    return Trial(role, kind, None if back is None else back - ended, max(0.0, lost))


def settled(fleet: Fleet, throughput: Throughput) -> float:
    """The throughput, once two measurements in a row agree."""
    rates = [0.0]
    for _ in range(30):
        begin = time.time()
        fleet.sleep_until(time.monotonic() + BEFORE_SECONDS)
        rates.append(throughput.in_window(begin, BEFORE_SECONDS))
        if rates[-1] > 0 and abs(rates[-1] / max(rates[-2], 1e-9) - 1) < 0.05:
            break
    return rates[-1]


def run(json: Path | None, trials: int, seed: int) -> bool:
    """Print median and 95th percentile of every case; whether all are within the target."""
    folder = Path(tempfile.mkdtemp(prefix="leeway-recovery-"))
    recipe = fleet_recipe(
        folder,
        [
            ("generators.count", GENERATORS),
            ("generators.groups_in_flight", 4),
            ("generators.synthetic", {"tokens_per_second": 100, "mean_tokens": 100, "sigma": 0.0}),
            ("replay.groups_per_batch", 4),
            ("replay.drop_zero_variance", False),
            ("tasks.held_out", 1),
            ("checkpoint_every_steps", 20),
        ],
    )
    choice, found = random.Random(seed), []
    with running(recipe, folder, CACHE, Pace(0.01)) as fleet:
        fleet.wait_for_step(20, STARTUP_SECONDS)
        for number in range(trials):
            for role, kind in cases():
                found.append(trial(fleet, role, kind, choice.random()))
                print(f"{number + 1}/{trials}: {found[-1]}", flush=True)
        fleet.end()
    console.print(table(found))
    print(f"target: 95 % within {TARGET_SECONDS:g} s")
    if json:
        json.write_text(jsonlib.dumps([asdict(t) for t in found], indent=2))
    return all(percentile(times(found, *case), 0.95) <= TARGET_SECONDS for case in cases())


def times(found: list[Trial], role: str, kind: str) -> list[float]:
    """Recovery times of a case; infinite where the fleet did not come back."""
    inf = float("inf")
    return [
        inf if t.recovery_seconds is None else t.recovery_seconds for t in found if (t.role, t.kind) == (role, kind)
    ]


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(found: list[Trial]) -> Table:
    made = Table("role", "fault", "trials", "median s", "p95 s", "longest s", "lost meanwhile", box=box.SIMPLE)
    for role, kind in cases():
        some = times(found, role, kind)
        lost = statistics.mean(t.lost for t in found if (t.role, t.kind) == (role, kind))
        lasts = LASTS_SECONDS[kind]
        made.add_row(
            *(role, kind if not lasts else f"{kind} {lasts:g} s", str(len(some))),
            *(f"{value:.1f}" for value in (statistics.median(some), percentile(some, 0.95), max(some))),
            f"{lost:.0%}" if lasts else "",
        )
    return made
