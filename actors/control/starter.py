"""How processes are started and watched: a protocol, so that Ray is one way of several.

Supervisor ──▶ Starter.start(role, context, resources) ──▶ Process
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import ray

from actors import process
from actors.control.placement import Resources
from actors.control.root_cause import in_one_line
from actors.errors import ERRORS, GaveUpError, RecipeError, RunError
from actors.roles.orphan import when_orphaned
from actors.roles.role import CLASSES, Description, Leaver, Role, RoleContext, build
from actors.storage.mark import require_mark
from learner.errors import LearnerError

#: Calls that an actor takes at a time: its work, one that waits for its end, and those that return at once.
CONCURRENT_CALLS = 8
#: How often a call that waits for the end of the work looks whether another has taken its place (s).
WAIT_SECONDS = 1.0
#: Errors that a process would meet again if it were started again: what it was given is wrong, or it refused to go on.
REFUSALS = (GaveUpError, LearnerError, RecipeError)


class Process(Protocol):
    """One role in a process of its own."""

    def describe(self, seconds: float) -> Description | None:
        """Where it can be reached; None where it is not up within `seconds`.

        Raises:
            RunError: it will not come up; the message has the first reason.
        """
        ...

    def tell(self, replay: str) -> None:
        """Let it know that its controller lives, and where the replay is; returns at once. See `Lifeline.told`."""
        ...

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        ...

    def drain(self) -> None:
        """Ask it to leave a run that goes on, see `Leaver`; returns at once."""
        ...

    def kill(self) -> None: ...


#: What Ray's error about an actor contains whose process ended from outside, or crashed.
KILLED = "SYSTEM_ERROR"


class Ended(NamedTuple):
    """A process that has ended, and why it died: None where its `run` returned.

    Attributes:
        process: as `start` returned it.
        reason: in one line.
        refused: whether another in its place would meet the same error.
        killed: whether its process was gone before it could say anything.
    """

    process: Process
    reason: str | None
    refused: bool = False
    killed: bool = False


class Living(NamedTuple):
    """A process that an earlier controller has started."""

    role: str
    name: str
    process: Process


class Starter(Protocol):
    """Starts processes and says which have ended."""

    def start(self, role: str, context: RoleContext, resources: Resources) -> Process: ...

    def ended(self, processes: Sequence[Process], count: int, seconds: float) -> list[Ended]:
        """Wait up to `seconds` until `count` of the processes have ended; returns each that has."""
        ...

    def adopt(self) -> list[Living]:
        """The processes of this run that live, in the order in which they were started, for a controller that takes
        the place of another."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RayProcess:
    """An actor, and the references of its `describe` and `run`."""

    handle: Any
    described: Any
    running: Any

    def describe(self, seconds: float) -> Description | None:
        try:
            described: Description = ray.get(self.described, timeout=seconds)
        except ray.exceptions.GetTimeoutError:
            return None
        except ray.exceptions.RayError as error:
            raise RunError(root_cause(error)) from error
        return described

    def tell(self, replay: str) -> None:
        self.handle.tell.remote(replay)

    def stop(self) -> None:
        self.handle.stop.remote()

    def drain(self) -> None:
        self.handle.drain.remote()

    def kill(self) -> None:
        ray.kill(self.handle)


class RayStarter:
    """Every role is a Ray actor, which Ray itself never restarts: the supervisor does.

    The actors are detached and have names in the run's namespace, so that they outlive a controller that dies and the
    next one finds them. The end of the driver ends them all: by the reaper on one machine, by `end_all` in a cluster;
    and where neither could act they find out by themselves that they are orphans.
    """

    def start(self, role: str, context: RoleContext, resources: Resources) -> RayProcess:
        actor: Any = ray.remote(actor_class(role))
        handle = actor.options(
            name=f"{role}/{context.name}/{time.time_ns()}",  # what is being killed may still have the name
            lifetime="detached",
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            resources=dict(resources.custom),
            max_concurrency=CONCURRENT_CALLS,
            max_restarts=0,
        ).remote(context)
        return _process(handle)

    def ended(self, processes: Sequence[Process], count: int, seconds: float) -> list[Ended]:
        by_reference = {process.running: process for process in processes if isinstance(process, RayProcess)}
        if not by_reference:
            time.sleep(seconds)
            return []
        done, _ = ray.wait(list(by_reference), num_returns=min(count, len(by_reference)), timeout=seconds)
        return [_ended(by_reference[reference], reference) for reference in done]

    def adopt(self) -> list[Living]:
        found = []
        for title in sorted(ray.util.list_named_actors(), key=lambda title: title.rpartition("/")[2]):
            role, name, _ = title.split("/")
            try:
                found.append(Living(role, name, _process(ray.get_actor(title))))
            except ValueError:  # it has ended since
                continue
        return found


def _process(handle: Any) -> RayProcess:
    return RayProcess(handle, handle.describe.remote(), handle.run.remote())


def end_all() -> None:
    """Kill every actor of the run's namespace, whoever has started it."""
    for title in ray.util.list_named_actors():
        try:
            ray.kill(ray.get_actor(title))
        except ValueError:  # it has ended since
            continue


def actor_class(role: str) -> type[Role]:
    """A class that builds the role in the actor's process, where alone its modules are imported.

    Ray shows its name in lists of processes, hence the role's own.
    """

    class Actor:
        def __init__(self, context: RoleContext) -> None:
            self._role: Role | None = None
            controller = context.recipe.controller
            if context.storage.mark:
                require_mark(context.storage.folder, context.storage.mark, controller.startup_seconds)
            process.outlive_signals(self.drain)
            process.take_signals()
            process.print_to_log(context.storage.folder, context.name)
            self._lifeline, self._work = context.lifeline, Once(self._run)
            self._role = build(role, context)
            when_orphaned(context.lifeline, controller.orphan_seconds, self._role.stop, controller.stop_seconds)

        def describe(self) -> Description:
            return self._built().describe()

        def run(self) -> None:
            self._work()

        def _run(self) -> None:
            process.take_signals()
            self._built().run()

        def tell(self, replay: str) -> None:
            self._lifeline.told(replay)

        def stop(self) -> None:
            self._built().stop()

        def drain(self) -> None:
            """SIGTERM: a node is taken away. Whose death would end the run, or who is not there yet, stays."""
            if isinstance(self._role, Leaver):
                self._role.drain()

        def _built(self) -> Role:
            assert self._role is not None
            return self._role

    Actor.__name__ = Actor.__qualname__ = CLASSES[role].rpartition(":")[2]
    return Actor


class Once:
    """Work that the first call does. Every later one, by a controller that has taken over, waits for the end of it, and
    sends the one home that waited before: its controller is gone."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._begun, self._ended = work, threading.Lock(), threading.Event()
        self._waiting = 0
        self._error: Exception | None = None

    def __call__(self) -> None:
        if not self._begun.acquire(blocking=False):
            self._wait()
            return
        try:
            self._work()
        except Exception as error:
            self._error = error
            raise
        finally:
            self._ended.set()

    def _wait(self) -> None:
        self._waiting = mine = self._waiting + 1
        while not self._ended.wait(WAIT_SECONDS):
            if self._waiting != mine:
                return
        if self._error is not None:
            raise self._error


def _ended(process: Process, reference: Any) -> Ended:
    """Why an actor's `run` ended."""
    try:
        ray.get(reference, timeout=1)
    except ray.exceptions.RayError as error:
        refused = isinstance(getattr(error, "cause", None), REFUSALS)
        return Ended(process, root_cause(error), refused, killed=KILLED in str(error))
    return Ended(process, None)


def root_cause(error: BaseException) -> str:
    """What went wrong in an actor, in one line without Ray's traceback."""
    if KILLED in str(error):
        return "its process was killed, or crashed"
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ERRORS):
        return in_one_line(str(cause))
    if isinstance(cause, ray.exceptions.RayError):  # its message ends with what matters, after a traceback
        message = (str(cause).strip().splitlines() or [""])[-1]
    else:
        message = str(cause)
    return f"{type(cause).__name__}: {in_one_line(message)}"
