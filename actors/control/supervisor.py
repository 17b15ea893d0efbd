"""The processes of a run: started, watched, replaced where one dies, ended.

    wanted ──start──▶ starting ──wait_ready──▶ up ──exited──▶ replaced, or the run ends
                                                └──stop─────▶ ended by itself, or killed after `stop_seconds`

Generators and verifiers hold nothing that the replay does not hand out again, so another one takes the place of each
that dies, `controller.restarts` times a run. Learner and replay hold the run's state: their death ends it.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from actors.config.recipe import Recipe
from actors.control.placement import resources
from actors.control.starter import Process, Starter
from actors.errors import RunError
from actors.roles.role import Description, RoleContext, Storage

log = logging.getLogger(__name__)

#: The roles in whose place another process can go on.
REPLACEABLE = frozenset({"generator", "verifier"})


@dataclass(frozen=True, slots=True)
class Supervised:
    """One process under supervision."""

    role: str
    name: str
    process: Process


@dataclass(frozen=True, slots=True)
class Exit:
    """A process that has ended; `reason` is None where its work was done."""

    process: Supervised
    reason: str | None


class Supervisor:
    """All processes of one run. Not for several threads, but for `wait_ready`."""

    def __init__(self, recipe: Recipe, storage: Storage, starter: Starter) -> None:
        self._recipe, self._storage, self._starter = recipe, storage, starter
        self._processes: dict[str, Supervised] = {}
        self._incarnations = 0
        self.restarts = 0
        #: Address of the replay, which every other role is told; set once it is up.
        self.replay = ""

    def start(self, role: str, rank: int = 0) -> Supervised:
        """Start one more process of a role; returns before it is up."""
        self._incarnations += 1
        context = RoleContext(
            recipe=self._recipe,
            name=name_of(role, rank, self._incarnations),
            storage=self._storage,
            replay=self.replay,
            seed=self._recipe.seed * 1000 + self._incarnations,
            rank=rank,
        )
        process = self._starter.start(role, context, resources(self._recipe, role))
        started = self._processes[context.name] = Supervised(role, context.name, process)
        return started

    def wait_ready(self, process: Supervised) -> Description:
        """Wait until a process is up.

        Raises:
            RunError: it did not come up within `controller.startup_seconds`.
        """
        seconds = self._recipe.controller.startup_seconds
        try:
            return process.process.describe(seconds)
        except RunError as error:
            raise RunError(f"{process.name} did not start: {error}; see {self._log(process)}") from error

    def exited(self, seconds: float) -> list[Exit]:
        """Wait up to `seconds` for a process to end; those that have are under supervision no more."""
        by_process = {id(p.process): p for p in self._processes.values()}
        ended = self._starter.ended([p.process for p in self._processes.values()], 1, seconds)
        exits = [Exit(by_process[id(process)], reason) for process, reason in ended]
        for exit_ in exits:
            del self._processes[exit_.process.name]
        return exits

    def replace(self, exit_: Exit) -> Supervised:
        """Start another process in the place of one that has exited.

        Raises:
            RunError: the role holds the run's state, or the restarts are used up.
        """
        dead, reason = exit_.process, exit_.reason or "it ended by itself"
        if dead.role not in REPLACEABLE:
            raise RunError(
                f"the {dead.role} died: {reason}; see {self._log(dead)}, then resume with "
                f"`leeway run --resume {self._storage.folder}`"
            )
        if self.restarts >= self._recipe.controller.restarts:
            raise RunError(
                f"{dead.name} died ({reason}) after {self.restarts} restarts; see {self._log(dead)}, or raise "
                "controller.restarts"
            )
        self.restarts += 1
        dead.process.kill()  # its `run` may have raised in a process that lives on, and holds what it reserved
        return self.start(dead.role)

    def stop(self, *roles: str) -> None:
        """Ask the processes of some roles to end, wait for `controller.stop_seconds`, and kill whoever has not.

        Raises:
            Exception: the first that stopping one of them raised, once all have been stopped.
        """
        members = [p for p in self._processes.values() if p.role in roles]
        with ExitStack() as killing:  # in any case, and each whatever happens to the others
            for member in members:
                killing.callback(self._processes.pop, member.name, None)
                killing.callback(member.process.kill)
            with ExitStack() as asking:
                for member in members:
                    asking.callback(member.process.stop)
            self._wait_ended(members)

    def _wait_ended(self, members: Sequence[Supervised]) -> None:
        seconds = self._recipe.controller.stop_seconds
        ended = {id(process) for process, _ in self._starter.ended([m.process for m in members], len(members), seconds)}
        if late := [m.name for m in members if id(m.process) not in ended]:
            log.warning("%s did not end within %g s and will be killed", ", ".join(sorted(late)), seconds)

    def processes(self) -> Sequence[Supervised]:
        """Those under supervision now."""
        return tuple(self._processes.values())

    def _log(self, process: Supervised) -> str:
        return f"{self._storage.folder}/logs/{process.name}.log"


def name_of(role: str, rank: int, incarnation: int) -> str:
    """The name of a process, of its log and of its series in Prometheus.

    Learner and replay are one service each, whoever serves it; generators and verifiers come and go.
    """
    if role in REPLACEABLE:
        return f"{role}-{incarnation}"
    return role if rank == 0 else f"{role}-rank-{rank}"
