"""How many processes of each pool there are to be, and how the pools get there. No Ray, no clock of its own.

    wanted > there   another process is started. Where the cluster has no place for it, it waits, and Ray's autoscaler
                     sees that as demand for a node.
    wanted < there   one is told to leave: it takes no new work, finishes or hands in what it has, and ends. Whoever
                     has not ended in time is killed; what it held is issued again. Nodes that are empty then are
                     Ray's autoscaler's to remove.

Those leave first that have not come up yet, then those that were started last: the nodes that were added last are the
first to be empty again. Whoever leaves is not replaced. Counts of a pool, and who is leaving, outlive the controller,
in the run folder.
"""

import json
import logging
import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from actors.config.recipe import Recipe
from actors.control.autoscaler import Autoscaler, signals_of
from actors.control.placement import POOLS, leave_seconds, processes
from actors.control.supervisor import Supervised
from actors.errors import RecipeError
from actors.observability import metrics
from learner.files import write_atomically

log = logging.getLogger(__name__)

#: In the run folder: counts, and who is leaving.
FILE, LEAVING = "pools.json", "leaving"
#: Most processes of a pool: a slip of the finger must not ask a cluster for a million nodes.
MOST = 10_000
#: A process that leaves has so long more than it is told to take, before it is killed (s).
GRACE_SECONDS = 5.0


class Scales(Protocol):
    """The part of a supervisor that is needed here."""

    def processes(self) -> Sequence[Supervised]: ...

    def start(self, role: str, rank: int = 0) -> Supervised: ...

    def is_up(self, name: str) -> bool: ...

    def vacant(self, role: str) -> int:
        """Places of a role that stay empty."""
        ...

    def give_up(self, role: str, count: int) -> int:
        """Fill at most so many of them no more; returns how many that were."""
        ...


class Scaling:
    """`want` and `status` may be called from any thread.

    Args:
        recipe: of the run.
        folder: the run folder.
        midway: whether an earlier controller has begun the run, whose counts hold; else the recipe's do.
    """

    def __init__(self, recipe: Recipe, folder: Path, midway: bool = False) -> None:
        self._recipe, self._folder = recipe, folder
        self._lock = threading.Lock()
        pools = [pool for pool in POOLS if pool != "scorer" or recipe.has_scorers]
        self._wanted: dict[str, int] = {pool: processes(recipe, pool) for pool in pools}
        #: When whoever was told to leave has to have ended.
        self._leaving: dict[str, float] = {}
        if midway:
            counts, leaving = _kept(folder)
            self._wanted |= {pool: count for pool, count in counts.items() if pool in pools}
            self._leaving = dict.fromkeys(leaving, math.inf)
        else:
            (folder / FILE).unlink(missing_ok=True)
        self._sizing = Autoscaler(recipe.autoscale) if recipe.autoscale is not None else None

    def count(self, role: str) -> int:
        """How many processes there are to be of any role."""
        return self._wanted.get(role, processes(self._recipe, role))

    @property
    def wanted(self) -> Mapping[str, int]:
        return dict(self._wanted)

    @property
    def leaving(self) -> frozenset[str]:
        return frozenset(self._leaving)

    def want(self, pool: str, count: int) -> dict[str, int]:
        """Set how many there are to be of a pool; returns all counts.

        Raises:
            RecipeError: there is no such pool, or the count will not do.
        """
        if pool not in self._wanted:
            pools = " and ".join(f"{each}s" for each in self._wanted)
            raise RecipeError(f"{pool} is no pool of this run that can be scaled; {pools} are")
        least = 0 if pool == "generator" else 1
        if not least <= count <= MOST:
            raise RecipeError(f"{pool}s: {count} is not between {least} and {MOST}")
        with self._lock:
            if self._wanted[pool] != count:
                log.info("%ss: %d are wanted, instead of %d", pool, count, self._wanted[pool])
            self._wanted[pool] = count
            self._keep()
            return dict(self._wanted)

    def _keep(self) -> None:
        """For the next controller; the lock is held."""
        try:
            write_atomically(self._folder / FILE, json.dumps(self._wanted | {LEAVING: sorted(self._leaving)}) + "\n")
        except OSError as error:
            log.warning("the sizes of pools would not outlive this controller: %s", error)

    # ---------------------------------------------------------------- for the controller's thread

    def follow(
        self,
        status: Mapping[str, Any],
        busy: Mapping[str, float],
        members: Sequence[Mapping[str, Any]],
        now: float,
    ) -> None:
        """Let the autoscaler decide, where the recipe has one; see `signals_of`."""
        if self._sizing is None or not status:
            return
        for pool, count in self._sizing.decide(
            signals_of(self._recipe, status, busy, members), self.wanted, now
        ).items():
            self.want(pool, count)

    def adopted(self, processes: Sequence[Supervised], now: float) -> Counter[str]:
        """Who is leaving of those that a controller has taken over, by role. They are told once more: the controller
        before may have died before it could."""
        leaving = [process for process in processes if process.name in self._leaving]
        self._leaving.clear()
        for process in leaving:
            self._let_go(process, True, now)
        return Counter(process.role for process in leaving)

    def left(self, name: str) -> bool:
        """A process has ended; whether it was told to leave, so that nothing takes its place."""
        with self._lock:
            if self._leaving.pop(name, None) is None:
                return False
            self._keep()
            return True

    def step(self, supervisor: Scales, now: float) -> tuple[list[Supervised], list[str]]:
        """Start and drain what is missing and too many.

        Returns:
            Those that were started, and the names of those that were told to leave and have not done so in time.
        """
        started: list[Supervised] = []
        for pool in self._wanted:
            there = [p for p in supervisor.processes() if p.role == pool and p.name not in self._leaving]
            surplus = len(there) + supervisor.vacant(pool) - self._wanted[pool]
            surplus -= supervisor.give_up(pool, surplus)
            started += [supervisor.start(pool) for _ in range(-surplus)]
            newest_first = there[::-1]
            first_to_go = sorted(newest_first, key=lambda p: supervisor.is_up(p.name))
            for process in first_to_go[: max(0, surplus)]:
                self._let_go(process, supervisor.is_up(process.name), now)
        for pool in self._wanted:
            metrics.POOL_WANTED.labels(pool).set(self._wanted[pool])
        return started, [name for name, due in self._leaving.items() if now > due]

    def _let_go(self, process: Supervised, up: bool, now: float) -> None:
        seconds = leave_seconds(self._recipe, process.role) + GRACE_SECONDS if up else 0.0
        log.info("%s is told to leave, within %g s", process.name, seconds)
        with self._lock:
            self._leaving[process.name] = now + seconds
            self._keep()
        process.process.drain()


def _kept(folder: Path) -> tuple[dict[str, int], list[str]]:
    """The counts that an earlier controller of the run was told, and who was leaving; nothing where the file is not
    there, or not whole."""
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}, []
    kept = found if isinstance(found, dict) else {}
    counts = {pool: count for pool, count in kept.items() if pool in POOLS and isinstance(count, int)}
    return counts, list(kept.get(LEAVING, ()))
