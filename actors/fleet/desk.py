"""A controller in a process of its own, and the desk at which it asks for processes of the fleet.

The processes are those of the fleet's starter, which lives with whoever plays the faults: so they outlive a controller
that is killed, and the next one finds them, as it finds actors in Ray.

    controller: DeskStarter, DeskProcess ──▶ Desk ──▶ FleetStarter, FleetProcess

Between the two is the standard library's own manager, over a Unix socket in the run's temporary folder, with a key.
"""

import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any, NamedTuple

from actors import process
from actors.config.recipe import Recipe
from actors.control.controller import Controller, Predecessor
from actors.control.placement import Resources
from actors.control.root_cause import in_one_line
from actors.control.starter import Ended, Living, Process
from actors.fleet.starter import FleetProcess, FleetStarter
from actors.roles.role import Description, RoleContext


class Desk:
    """The fleet's starter for another process: processes are numbers there."""

    def __init__(self, starter: FleetStarter) -> None:
        self._starter = starter
        self._processes: list[FleetProcess] = []
        self._lock = threading.Lock()

    def _number(self, started: FleetProcess) -> int:
        with self._lock:
            if started not in self._processes:
                self._processes.append(started)
            return self._processes.index(started)

    def start(self, role: str, context: RoleContext, resources: Resources) -> int:
        return self._number(self._starter.start(role, context, resources))

    def ask(self, number: int, what: str, *arguments: Any) -> Any:
        """Call a method of a process."""
        return getattr(self._processes[number], what)(*arguments)

    def ended(self, numbers: Sequence[int], count: int, seconds: float) -> list[tuple[int, str | None, bool]]:
        found = self._starter.ended([self._processes[number] for number in numbers], count, seconds)
        return [
            (self._processes.index(e.process), e.reason, e.killed) for e in found if isinstance(e.process, FleetProcess)
        ]

    def adopt(self) -> list[tuple[str, str, int]]:
        return [(p.role, p.name, self._number(p)) for p in self._starter.living()]


class DeskManager(BaseManager):
    """Serves the one desk of this process, or connects to it."""


DeskManager.register("desk", exposed=("start", "ask", "ended", "adopt"))


def serve(starter: FleetStarter, address: str, key: bytes) -> None:
    """Serve a desk for this starter from a thread, as long as this process lives."""

    class Served(BaseManager):
        pass

    desk = Desk(starter)
    Served.register("desk", callable=lambda: desk, exposed=("start", "ask", "ended", "adopt"))
    server = Served(address, key).get_server()
    threading.Thread(target=server.serve_forever, name="desk", daemon=True).start()


class DeskProcess(NamedTuple):
    """A process of the fleet, as its controller sees it; equal numbers are the same process."""

    desk: Any
    number: int

    def describe(self, seconds: float) -> Description | None:
        found: Description | None = self.desk.ask(self.number, "describe", seconds)
        return found

    def tell(self, replay: str) -> None:
        self.desk.ask(self.number, "tell", replay)

    def stop(self) -> None:
        self.desk.ask(self.number, "stop")

    def drain(self) -> None:
        self.desk.ask(self.number, "drain")

    def kill(self) -> None:
        self.desk.ask(self.number, "kill")


class DeskStarter:
    """A starter at the desk of another process."""

    def __init__(self, address: str, key: bytes) -> None:
        manager = DeskManager(address, key)
        manager.connect()
        self._desk = manager.desk()  # type: ignore[attr-defined]
        self._known: dict[int, DeskProcess] = {}

    def _process(self, number: int) -> DeskProcess:
        return self._known.setdefault(number, DeskProcess(self._desk, number))

    def start(self, role: str, context: RoleContext, resources: Resources) -> DeskProcess:
        return self._process(self._desk.start(role, context, resources))

    def ended(self, processes: Sequence[Process], count: int, seconds: float) -> list[Ended]:
        numbers = [p.number for p in processes if isinstance(p, DeskProcess)]
        found = self._desk.ended(numbers, count, seconds)
        return [Ended(self._process(number), reason, killed=killed) for number, reason, killed in found]

    def adopt(self) -> list[Living]:
        return [Living(role, name, self._process(number)) for role, name, number in self._desk.adopt()]


def serve_controller(
    pipe: Connection,
    recipe: Recipe,
    folder: Path,
    models: Path,
    address: str,
    key: bytes,
    predecessor: Predecessor | None,
) -> None:
    """The main function of a controller's process: it runs until the end of the run, and says how that was."""
    process.print_to_log(folder, "controller")
    try:
        controller = Controller(recipe, folder, models, None, 0, DeskStarter(address, key), predecessor)

        def obey() -> None:
            try:
                while pipe.recv() == "stop":
                    controller.stop()
            except (EOFError, OSError):
                os._exit(1)  # whoever has started it is gone

        threading.Thread(target=obey, name="orders", daemon=True).start()
        controller.run()
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {in_one_line(str(error))}")
        raise
    pipe.send(None)
