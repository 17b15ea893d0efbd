"""A starter whose processes are objects of this one, which come up, die and end when a test says so; its supervisor."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from actors.config.loading import load
from actors.control.placement import Resources
from actors.control.starter import Ended, Living, Process
from actors.control.supervisor import Exit, Supervised, Supervisor
from actors.deadline import until
from actors.errors import RunError
from actors.roles.role import Description, RoleContext, Storage

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


@dataclass(eq=False)
class FakeProcess:
    """A process that does nothing. `death` is why it died; None with `done` set means that its work is done. One that
    has `vanished` was killed by somebody else."""

    role: str
    context: RoleContext
    resources: Resources
    address: str = ""
    broken: str = ""
    obedient: bool = True
    done: bool = False
    death: str | None = None
    refused: bool = False
    vanished: bool = False
    told: list[str] = field(default_factory=list)
    stopped: bool = False
    drained: bool = False
    killed: bool = False

    def describe(self, seconds: float) -> Description | None:
        if self.broken:
            raise RunError(self.broken)
        return Description(f"127.0.0.1:{seconds:.0f}", self.address)

    def tell(self, replay: str) -> None:
        self.told.append(replay)

    def stop(self) -> None:
        self.stopped = True
        self.done |= self.obedient

    def drain(self) -> None:
        self.drained = True
        self.done |= self.obedient

    def kill(self) -> None:
        self.killed = True

    def die(self, reason: str | None, refused: bool = False) -> None:
        self.done, self.death, self.refused = True, reason, refused


@dataclass
class FakeStarter:
    """Starts fake processes and remembers them in order; `addresses` are what roles say of their services."""

    started: list[FakeProcess] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def start(self, role: str, context: RoleContext, resources: Resources) -> FakeProcess:
        process = FakeProcess(role, context, resources, self.addresses.get(role, ""), self.broken.get(role, ""))
        self.started.append(process)
        return process

    def ended(self, processes: Sequence[Process], count: int, seconds: float) -> list[Ended]:
        mine = [p for p in processes if isinstance(p, FakeProcess)]
        until(lambda: sum(p.done for p in mine) >= count, min(seconds, 0.2), interval=0.01)
        return [Ended(p, p.death, p.refused, p.vanished) for p in mine if p.done]

    def adopt(self) -> list[Living]:
        return [Living(p.role, p.context.name, p) for p in self.started if not (p.done or p.killed)]

    def of(self, role: str) -> list[FakeProcess]:
        return [p for p in self.started if p.role == role]

    def wait_for(self, role: str, count: int, seconds: float = 60.0) -> list[FakeProcess]:
        """The processes of a role, once there have been `count`."""
        assert until(lambda: len(self.of(role)) >= count, seconds), f"{role}: {self.of(role)}"
        return self.of(role)


def supervisor(
    starter: FakeStarter, *overrides: str, folder: Path = Path("/runs/a"), clock: Callable[[], float] = time.monotonic
) -> Supervisor:
    recipe = load(QUICKSTART, ["controller.stop_seconds=0.1", *overrides])
    return Supervisor(recipe, Storage(folder, Path("/models/b")), starter, clock)


def started(processes: list[Supervised]) -> Supervised:
    assert processes, "its place stays empty"
    (process,) = processes
    return process


def die(watched: Supervisor, starter: FakeStarter, reason: str | None, number: int = -1) -> Exit:
    """Let the process that was started as number so and so die; how the supervisor sees it."""
    starter.started[number].die(reason)
    (exit_,) = watched.exited(1)
    return exit_
