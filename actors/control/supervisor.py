"""The processes of a run: started, watched, replaced where one dies, ended.

    wanted ──start──▶ starting ──came_up──▶ up ──exited, end──▶ replaced
                          │                  └──stop──────────▶ ended by itself, or killed after `stop_seconds`
                          └─exited, end──▶ the run ends, or one more attempt, or its place stays empty for a while

Whoever dies is replaced, `controller.restarts` times within `controller.restart_window_seconds` (control.restarts says
what counts):

    generator, verifier,  by another one: they hold nothing that the replay does not hand out again, or a verifier
      scorer              ask of another scorer.
    replay                at the same address, where that can be had; its journal in the run folder makes it whole.
    learner               all of its ranks, which meet in collectives; they look for the newest sound checkpoint.

A learner or replay that *refuses* to go on (a checkpoint that cannot be written, losses that are no numbers) would do
so again, and ends the run. Who dies *before it came up* would most likely die again, too. Where none of its role ever
came up, the recipe or the machine is at fault, and the run ends at once. Later one more attempt is made, since what a
dead process held (memory of a GPU, a port) may not be free yet; after it the run goes on with those of the role that
are left, and tries again later, or ends where there is none.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from actors.config.pipeline import PIPELINE
from actors.config.recipe import Recipe
from actors.control.placement import processes, resources
from actors.control.restarts import Restarts, Vacancies
from actors.control.root_cause import last_error
from actors.control.starter import Process, Starter
from actors.deadline import until
from actors.errors import RunError
from actors.observability.waits import waiting
from actors.roles.role import Description, RoleContext, Storage
from actors.transport.address import endpoints, joined, split
from learner.extra import CHECKPOINTS, checkpoints, newest_whole

log = logging.getLogger(__name__)

#: The roles of which there may be several, under names of their own. The others are one service each.
POOLED = frozenset({"generator", "verifier", "scorer"})
#: What the ranks of the others are called.
RANKS = {"learner": "rank", "replay": "shard"}
#: Processes of a role that may die in a row before one has come up, once an earlier one had.
START_ATTEMPTS = 2
#: How long one look takes whether a process has come up, or the run is to stop (s).
LOOK_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Supervised:
    """One process under supervision.

    Attributes:
        started: moment of the supervisor's clock.
        rank: of the learner's or the replay's processes, which one it is.
        up: whether it has reported that it came up.
    """

    role: str
    name: str
    process: Process
    started: float = 0.0
    rank: int = 0
    up: bool = False

    @property
    def account(self) -> str:
        """Under whose name its faults are kept: the ranks of a learner are replaced together."""
        return "learner" if self.role == "learner" else self.name


@dataclass(frozen=True, slots=True)
class Exit:
    """A process that has ended; `reason` is None where its work was done. One that `hung` was killed for it, one that
    `refused` ended by an error that another in its place would meet as well, and one that was `killed` ended by none.
    """

    process: Supervised
    reason: str | None
    hung: bool = False
    refused: bool = False
    killed: bool = False


class Supervisor:
    """All processes of one run. Not for several threads, but for `wait_ready`.

    Attributes:
        shards: addresses of the replay's shards, which every other role is told; set once they are up.
        restarts: processes that were replaced.
        vacancies: places that stay empty for now.
    """

    def __init__(
        self, recipe: Recipe, storage: Storage, starter: Starter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._recipe, self._storage, self._starter, self._clock = recipe, storage, starter, clock
        self._processes: dict[str, Supervised] = {}
        self._ever_up: set[str] = set()
        self._failed_starts: Counter[str] = Counter()
        self._incarnations = 0
        self._incidents = Restarts(recipe, clock)
        self.vacancies = Vacancies(recipe.controller.retry_seconds, clock)
        self.restarts = 0
        self.shards = [""] * processes(recipe, "replay")

    def adopt(self, ages: Iterable[float] = ()) -> list[Supervised]:
        """Take over what an earlier controller of this run has started and has not ended. Of two processes under one
        name the later one counts.

        Args:
            ages: how long ago that one has replaced processes (s), the oldest first.
        """
        self._incidents.remember(ages)
        self._incarnations = _incarnations(self._storage.folder / "logs")
        for found in self._starter.adopt():
            if (earlier := self._processes.pop(found.name, None)) is not None:
                earlier.process.kill()
            rank = rank_of(found.role, found.name)
            self._processes[found.name] = Supervised(found.role, found.name, found.process, self._clock(), rank, True)
            self._ever_up.add(found.role)
            # One that waits for a node has no log yet.
            self._incarnations = max(self._incarnations, _incarnation(found.name))
        self._storage = replace(self._storage, checkpoint=self._newest_checkpoint())
        return list(self._processes.values())

    def fill(self, role: str, count: int) -> list[Supervised]:
        """Start what is missing of a role; where ranks of the learner are, all of them start anew."""
        there = [p for p in self._processes.values() if p.role == role]
        if role == "learner":
            return [] if len(there) == count else self._start_learner()
        if role == "replay":
            return [self.start(role, n) for n in range(count) if name_of(role, n, 0) not in self._processes]
        return [self.start(role) for _ in range(count - len(there))]

    def start(self, role: str, rank: int = 0) -> Supervised:
        """Start one more process of a role; returns before it is up."""
        self._incarnations += 1
        context = RoleContext(
            recipe=self._recipe if role != "replay" else self._at_its_address(rank),
            name=name_of(role, rank, self._incarnations),
            storage=self._storage,
            replay="" if role == "replay" else self.replay,
            seed=self._recipe.seed * 1000 + self._incarnations,
            rank=rank,
        )
        process = self._starter.start(role, context, resources(self._recipe, role))
        started = self._processes[context.name] = Supervised(role, context.name, process, self._clock(), rank)
        return started

    @property
    def replay(self) -> str:
        """Address of the replay; empty before all of its shards have one."""
        return joined(self.shards) if all(self.shards) else ""

    @replay.setter
    def replay(self, address: str) -> None:
        self.shards = endpoints(address) if address else [""] * len(self.shards)

    def _at_its_address(self, shard: int) -> Recipe:
        """The recipe with the port of the shard's first start, unless it could not be had again just now. Where the
        recipe fixes one, the shards have that and the next ones."""
        network = self._recipe.network
        port = network.ports.replay and network.ports.replay + shard
        if self.shards[shard] and not self._failed_starts["replay"]:
            port = split(self.shards[shard])[1]
        ports = network.ports.model_copy(update={"replay": port})
        return self._recipe.model_copy(update={"network": network.model_copy(update={"ports": ports})})

    def _start_learner(self) -> list[Supervised]:
        """All ranks, in the place of those that are left."""
        for name in [p.name for p in self._processes.values() if p.role == "learner"]:
            self._processes.pop(name).process.kill()
        return [self.start("learner", rank) for rank in range(processes(self._recipe, "learner"))]

    def wait_ready(self, process: Supervised, stopped: Callable[[], bool] = lambda: False) -> Description | None:
        """Wait until a process is up; None where the run is being stopped meanwhile.

        Raises:
            RunError: it did not come up within `controller.startup_seconds`.
        """
        seconds = self._recipe.controller.startup_seconds
        found: list[Description] = []

        def described() -> bool:
            found.extend(filter(None, [process.process.describe(min(LOOK_SECONDS, seconds))]))
            return bool(found) or stopped()

        try:
            with waiting(process.name, "to come up", counted_as=process.role):
                up = until(described, seconds, interval=0.0)
            if not up:
                raise RunError(f"it did not answer within {seconds:g} s (controller.startup_seconds)")
        except RunError as error:
            raise RunError(f"{process.name} did not start: {error}; see {self._log(process)}") from error
        return found[0] if found else None

    def exited(self, seconds: float) -> list[Exit]:
        """Wait up to `seconds` for a process to end; those that have are under supervision no more."""
        by_process = {id(p.process): p for p in self._processes.values()}
        exits = []
        for ended in self._starter.ended([p.process for p in self._processes.values()], 1, seconds):
            process = by_process[id(ended.process)]
            exits.append(Exit(process, self._why(process, ended.reason), refused=ended.refused, killed=ended.killed))
            del self._processes[process.name]
        return exits

    def came_up(self, name: str) -> None:
        """A process has reported that it came up, with all that it loads."""
        if (process := self._processes.get(name)) is not None:
            self.was_up(process)

    def was_up(self, process: Supervised) -> None:
        """The same of one that may have ended since."""
        if not process.up:
            process.up = True
            self._ever_up.add(process.role)
            self._failed_starts[process.role] = 0
            self.vacancies.filled(process.name)

    def end(self, name: str, reason: str) -> Exit:
        """Kill a process that lives, but does not work any more."""
        hung = self._processes.pop(name)
        hung.process.kill()
        return Exit(hung, reason, hung=True)

    def replace(self, exit_: Exit) -> list[Supervised]:
        """Start another process in the place of one that has exited; none where its place stays empty for now, or has
        been taken already: the ranks of a learner are replaced together.

        Raises:
            RunError: none of the role comes up, another would do no better, or the restarts are used up.
        """
        dead, reason = exit_.process, exit_.reason or "it ended by itself"
        if dead.name in self._processes:
            return []
        dead.process.kill()  # its `run` may have raised in a process that lives on, and holds what it reserved
        if exit_.refused and dead.role not in POOLED:
            raise RunError(f"the {dead.name} gave up: {reason}; {self._advice(dead)}")
        if not dead.up and self._never_comes_up(dead.role, exit_.killed):
            # Where the recipe has none of the role those that have joined do its work, and the run can do without.
            if dead.role in POOLED and (self._left(dead.role) or not processes(self._recipe, dead.role)):
                log.warning("%s did not come up: %s; the run goes on without it for now", dead.name, reason)
                self.vacancies.add(dead.role, dead.name)
                return []
            if not exit_.killed or dead.role not in self._ever_up:
                raise RunError(f"{dead.name} did not come up: {reason}; {self._advice(dead)}")
        if dead.role in POOLED and dead.up and exit_.reason is None:
            # It has left, as its node may have to.
            return [self.start(dead.role)]
        if self._incidents.used_up(dead.started):
            raise RunError(
                f"{dead.name} {'hangs' if exit_.hung else 'died'} ({reason}) after {self._incidents.count} restarts "
                f"within {self._recipe.controller.restart_window_seconds:g} s; {self._advice(dead)}, or raise "
                "controller.restarts"
            )
        self.restarts += 1
        if dead.role in POOLED:
            return [self.start(dead.role)]
        self._storage = replace(self._storage, checkpoint=self._newest_checkpoint())
        return self._start_learner() if dead.role == "learner" else [self.start(dead.role, dead.rank)]

    def is_up(self, name: str) -> bool:
        """Whether a process has reported that it came up."""
        return name in self._processes and self._processes[name].up

    def vacant(self, role: str) -> int:
        """Places of a role that stay empty for now, and are tried again."""
        return self.vacancies.count(role)

    def give_up(self, role: str, count: int) -> int:
        """Fill at most so many of a role's empty places no more; returns how many that were."""
        return self.vacancies.give_up(role, count)

    def try_vacancies(self) -> dict[str, Supervised]:
        """Start those whose place was empty for long enough, by the name of who had it last."""
        found = {}
        for place in self.vacancies.due():
            found[place.name] = self.start(place.role)
            self.vacancies.tried(place, found[place.name].name)
        return found

    def _newest_checkpoint(self) -> Path | None:
        """The newest one that is whole; where the run has written none, what it began from."""
        found = newest_whole(self._storage.folder / CHECKPOINTS)
        return found[1] if found else self._storage.checkpoint

    def _never_comes_up(self, role: str, killed: bool) -> bool:
        """What ends by itself before any of its role came up would do so again; a kill from outside says nothing."""
        self._failed_starts[role] += 1
        at_once = role not in self._ever_up and not killed
        return at_once or self._failed_starts[role] >= START_ATTEMPTS

    def _left(self, role: str) -> bool:
        """Whether a process of a role is up."""
        return any(process.role == role and process.up for process in self._processes.values())

    def tell_all(self) -> None:
        """Let every process know that it has a controller, and where the replay is."""
        for process in self._processes.values():
            process.process.tell(self.replay)

    def _why(self, ended: Supervised, reason: str | None) -> str | None:
        """Why a process ended; where its error only points to another one, that one, from its log."""
        if reason is None or "root cause" not in reason.lower():
            return reason
        return last_error(self._log(ended)) or reason

    def _advice(self, dead: Supervised) -> str:
        return f"see {self._log(dead)}, then {what_next(self._storage.folder)}"

    def stop(self, *roles: str, seconds: float | None = None) -> None:
        """Ask the processes of some roles to end, wait, and kill whoever has not.

        Args:
            roles: of the processes.
            seconds: longest wait (s); at most, and by default, `controller.stop_seconds`.

        Raises:
            Exception: the first that stopping one of them raised, once all have been stopped.
        """
        members = [p for p in self._processes.values() if p.role in roles]
        if not members:
            return
        with ExitStack() as killing:  # in any case, and each whatever happens to the others
            for member in members:
                killing.callback(self._processes.pop, member.name, None)
                killing.callback(member.process.kill)
            with ExitStack() as asking:
                for member in members:
                    asking.callback(member.process.stop)
            longest = self._recipe.controller.stop_seconds
            self._wait_ended(members, longest if seconds is None else min(seconds, longest))

    def _wait_ended(self, members: Sequence[Supervised], seconds: float) -> None:
        ended = {id(e.process) for e in self._starter.ended([m.process for m in members], len(members), seconds)}
        if late := [m.name for m in members if id(m.process) not in ended]:
            log.warning("%s did not end within %g s and will be killed", ", ".join(sorted(late)), seconds)

    def processes(self) -> Sequence[Supervised]:
        """Those under supervision now."""
        return tuple(self._processes.values())

    def _log(self, process: Supervised) -> Path:
        return self._storage.folder / "logs" / f"{process.name}.log"


def what_next(folder: Path) -> str:
    """How to go on with a run that has failed: it can be resumed only where there is a checkpoint.

    A pipeline can always go on, and so can the run of one of its stages, in its pipeline.
    """
    if (
        pipeline := next((place for place in (folder, folder.parent) if (place / PIPELINE).is_file()), None)
    ) is not None:
        return f"resume with `leeway run --resume {pipeline}`"
    if checkpoints(folder / CHECKPOINTS):
        return f"resume with `leeway run --resume {folder}`"
    return f"start again with `leeway run {folder}/recipe.yaml`: there is no checkpoint yet"


def name_of(role: str, rank: int, incarnation: int) -> str:
    """The name of a process, of its log and of its series in Prometheus.

    Learner and replay are one service each, whoever serves it; generators, verifiers and scorers come and go.
    """
    if role in POOLED:
        return f"{role}-{incarnation}"
    return role if rank == 0 else f"{role}-{RANKS[role]}-{rank}"


def rank_of(role: str, name: str) -> int:
    """The rank in a name that `name_of` has given."""
    return _incarnation(name) if role not in POOLED else 0


def _incarnations(logs: Path) -> int:
    """The highest number in the name of any process that has left a log."""
    return max((_incarnation(path.stem) for path in logs.glob("*.log")), default=0)


def _incarnation(name: str) -> int:
    number = name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
