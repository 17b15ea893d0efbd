"""The processes of a run: started, watched, replaced where one dies, ended.

    wanted ──start──▶ starting ──came_up──▶ up ──exited, end──▶ replaced, or the run ends
                          │                  └──stop──────────▶ ended by itself, or killed after `stop_seconds`
                          └─exited, end──▶ the run ends, or one more attempt, or its place stays empty

Generators and verifiers hold nothing that the replay does not hand out again, so another one takes the place of each
that dies, `controller.restarts` times within `controller.restart_window_seconds`. Learner and replay hold the run's
state: their death ends it.

Who dies *before it came up* would most likely die again. Where none of its role ever came up, the recipe or the machine
is at fault, and the run ends at once. Later one more attempt is made, since what a dead process held (memory of a GPU,
a port) may not be free yet; after it the run goes on with those of the role that are left, or ends where there is none.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from actors.config.recipe import Recipe
from actors.control.placement import resources
from actors.control.root_cause import last_error
from actors.control.starter import Process, Starter
from actors.errors import RunError
from actors.roles.role import Description, RoleContext, Storage
from learner.extra import checkpoints

log = logging.getLogger(__name__)

#: The roles in whose place another process can go on.
REPLACEABLE = frozenset({"generator", "verifier"})
#: Processes of a role that may die in a row before one has come up, once an earlier one had.
START_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Supervised:
    """One process under supervision."""

    role: str
    name: str
    process: Process


@dataclass(frozen=True, slots=True)
class Exit:
    """A process that has ended; `reason` is None where its work was done. One that `hung` was killed for it."""

    process: Supervised
    reason: str | None
    hung: bool = False


class Supervisor:
    """All processes of one run. Not for several threads, but for `wait_ready`."""

    def __init__(
        self, recipe: Recipe, storage: Storage, starter: Starter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._recipe, self._storage, self._starter, self._clock = recipe, storage, starter, clock
        self._processes: dict[str, Supervised] = {}
        self._up: dict[str, str] = {}
        self._failed_starts: Counter[str] = Counter()
        self._incarnations = 0
        self._restarted: deque[float] = deque()
        self.restarts = 0
        self._vacant: Counter[str] = Counter()
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
        exits = [Exit(by_process[id(process)], self._why(by_process[id(process)], reason)) for process, reason in ended]
        for exit_ in exits:
            del self._processes[exit_.process.name]
        return exits

    def came_up(self, name: str) -> None:
        """A process has reported that it came up, with all that it loads."""
        if name not in self._up and (process := self._processes.get(name)) is not None:
            self._up[name] = process.role
            self._failed_starts[process.role] = 0

    def end(self, name: str, reason: str) -> Exit:
        """Kill a process that lives, but does not work any more."""
        hung = self._processes.pop(name)
        hung.process.kill()
        return Exit(hung, reason, hung=True)

    def replace(self, exit_: Exit) -> Supervised | None:
        """Start another process in the place of one that has exited; None where its place stays empty.

        Raises:
            RunError: the role holds the run's state, none of the role comes up, or the restarts are used up.
        """
        dead, reason = exit_.process, exit_.reason or "it ended by itself"
        if dead.role not in REPLACEABLE:
            raise RunError(f"the {dead.name} {'hangs' if exit_.hung else 'died'}: {reason}; {self._advice(dead)}")
        if dead.name not in self._up and self._never_comes_up(dead.role):
            if not self._left(dead.role):
                raise RunError(f"{dead.name} did not come up: {reason}; {self._advice(dead)}")
            log.warning("%s did not come up: %s; the run goes on without it", dead.name, reason)
            dead.process.kill()
            self._vacant[dead.role] += 1
            return None
        if self._restarts_used_up():
            raise RunError(
                f"{dead.name} died ({reason}) after {len(self._restarted)} restarts within "
                f"{self._recipe.controller.restart_window_seconds:g} s; {self._advice(dead)}, or raise "
                "controller.restarts"
            )
        self._restarted.append(self._clock())
        self.restarts += 1
        dead.process.kill()  # its `run` may have raised in a process that lives on, and holds what it reserved
        return self.start(dead.role)

    def _never_comes_up(self, role: str) -> bool:
        self._failed_starts[role] += 1
        return role not in self._up.values() or self._failed_starts[role] >= START_ATTEMPTS

    def _left(self, role: str) -> bool:
        """Whether a process of a role is up."""
        return any(process.role == role and name in self._up for name, process in self._processes.items())

    def _restarts_used_up(self) -> bool:
        window = self._recipe.controller.restart_window_seconds
        while self._restarted and self._clock() - self._restarted[0] > window:
            self._restarted.popleft()
        return len(self._restarted) >= self._recipe.controller.restarts

    def _why(self, ended: Supervised, reason: str | None) -> str | None:
        """Why a process ended; where its error only points to another one, that one, from its log."""
        if reason is None or "root cause" not in reason.lower():
            return reason
        return last_error(self._log(ended)) or reason

    def _advice(self, dead: Supervised) -> str:
        return f"see {self._log(dead)}, then {what_next(self._storage.folder)}"

    def is_up(self, name: str) -> bool:
        """Whether a process has reported that it came up."""
        return name in self._up

    def vacant(self, role: str) -> int:
        """Places of a role that stay empty."""
        return self._vacant[role]

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

    def _log(self, process: Supervised) -> Path:
        return self._storage.folder / "logs" / f"{process.name}.log"


def what_next(folder: Path) -> str:
    """How to go on with a run that has failed: it can be resumed only where there is a checkpoint."""
    if checkpoints(folder / "checkpoints"):
        return f"resume with `leeway run --resume {folder}`"
    return f"start again with `leeway run {folder}/recipe.yaml`: there is no checkpoint yet"


def name_of(role: str, rank: int, incarnation: int) -> str:
    """The name of a process, of its log and of its series in Prometheus.

    Learner and replay are one service each, whoever serves it; generators and verifiers come and go.
    """
    if role in REPLACEABLE:
        return f"{role}-{incarnation}"
    return role if rank == 0 else f"{role}-rank-{rank}"
