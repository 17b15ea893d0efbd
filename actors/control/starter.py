"""How processes are started and watched: a protocol, so that Ray is one way of several.

Supervisor ──▶ Starter.start(role, context, resources) ──▶ Process
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from actors import process
from actors.control.placement import Resources
from actors.control.root_cause import in_one_line
from actors.errors import ERRORS, RunError
from actors.roles.role import CLASSES, Description, Leaver, Role, RoleContext, build


class Process(Protocol):
    """One role in a process of its own."""

    def describe(self, seconds: float) -> Description:
        """Where it can be reached, once it is up.

        Raises:
            RunError: it did not come up within `seconds`; the message has the first reason.
        """
        ...

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        ...

    def drain(self) -> None:
        """Ask it to leave a run that goes on, see `Leaver`; returns at once."""
        ...

    def kill(self) -> None: ...


class Starter(Protocol):
    """Starts processes and says which have ended."""

    def start(self, role: str, context: RoleContext, resources: Resources) -> Process: ...

    def ended(self, processes: Sequence[Process], count: int, seconds: float) -> list[tuple[Process, str | None]]:
        """Wait up to `seconds` until `count` of the processes have ended.

        Returns:
            Each that has, with why it died, or None where its `run` returned.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RayProcess:
    """An actor, and the reference of its `run`."""

    handle: Any
    running: Any

    def describe(self, seconds: float) -> Description:
        try:
            described: Description = ray.get(self.handle.describe.remote(), timeout=seconds)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
            raise RunError(root_cause(error)) from error
        return described

    def stop(self) -> None:
        self.handle.stop.remote()

    def drain(self) -> None:
        self.handle.drain.remote()

    def kill(self) -> None:
        ray.kill(self.handle)


class RayStarter:
    """Every role is a Ray actor, which Ray itself never restarts: the supervisor does."""

    def start(self, role: str, context: RoleContext, resources: Resources) -> RayProcess:
        actor: Any = ray.remote(actor_class(role))
        handle = actor.options(
            num_cpus=resources.cpus, num_gpus=resources.gpus, max_concurrency=8, max_restarts=0
        ).remote(context)
        return RayProcess(handle, handle.run.remote())

    def ended(self, processes: Sequence[RayProcess], count: int, seconds: float) -> list[tuple[RayProcess, str | None]]:
        by_reference = {process.running: process for process in processes}
        if not by_reference:
            return []
        done, _ = ray.wait(list(by_reference), num_returns=min(count, len(by_reference)), timeout=seconds)
        return [(by_reference[reference], _reason(reference)) for reference in done]


def actor_class(role: str) -> type[Role]:
    """A class that builds the role in the actor's process, where alone its modules are imported.

    Ray shows its name in lists of processes, hence the role's own.
    """

    class Actor:
        def __init__(self, context: RoleContext) -> None:
            self._role: Role | None = None
            process.outlive_signals(self.drain)
            process.take_signals()
            process.print_to_log(context.storage.folder, context.name)
            self._role = build(role, context)

        def describe(self) -> Description:
            return self._built().describe()

        def run(self) -> None:
            process.take_signals()
            self._built().run()

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


def _reason(reference: Any) -> str | None:
    """Why an actor's `run` ended; None where it returned."""
    try:
        ray.get(reference, timeout=1)
    except ray.exceptions.RayError as error:
        return root_cause(error)
    return None


def root_cause(error: BaseException) -> str:
    """What went wrong in an actor, in one line without Ray's traceback."""
    if "SYSTEM_ERROR" in str(error):
        return "its process was killed, or crashed"
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ERRORS):
        return in_one_line(str(cause))
    if isinstance(cause, ray.exceptions.RayError):  # its message ends with what matters, after a traceback
        message = (str(cause).strip().splitlines() or [""])[-1]
    else:
        message = str(cause)
    return f"{type(cause).__name__}: {in_one_line(message)}"
