"""A starter whose generators share a few processes, and whose other roles have one each: processes that can be killed.

Supervisor ──▶ FleetStarter.start ──┬──▶ host.serve_generators × hosts    a thousand generators
                                    └──▶ host.serve_role                  replay, learner, verifiers
"""

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from typing import Any

from actors.control.placement import Resources
from actors.control.starter import Ended, Process
from actors.errors import RunError
from actors.fleet.host import serve_generators, serve_role
from actors.fleet.learner import Pace
from actors.fleet.relay import Relays
from actors.roles.role import CLASSES, Description, RoleContext

_FORK = multiprocessing.get_context("forkserver")
#: Where the classes of the roles are that have a process each.
PLACES: Mapping[str, str] = CLASSES | {
    "generator": "actors.fleet.host:Host",
    "learner": "actors.fleet.learner:SyntheticLearner",
}
#: What is imported once, in the server that all processes are forked from.
PRELOADED = [
    "transformers.models.auto.tokenization_auto",
    "actors.fleet.desk",
    *(place.partition(":")[0] for place in PLACES.values()),
]


@dataclass(eq=False)
class FleetProcess:
    """One role, as its supervisor and whoever plays faults see it."""

    role: str
    name: str
    place: "Place"
    described: Description | None = None
    ended: bool = False
    reason: str | None = None
    killed: bool = False

    def describe(self, seconds: float) -> Description | None:
        changed = self.place.changed
        with changed:
            changed.wait_for(lambda: self.described or self.ended, seconds)
        if self.described is None and self.ended:
            raise RunError(self.reason or "it has ended")
        return self.described

    def tell(self, replay: str) -> None:
        self.place.tell(self.name, replay)

    def stop(self) -> None:
        self.place.order("stop", self.name)

    def drain(self) -> None:
        self.place.order("drain", self.name)

    def kill(self) -> None:
        self.place.kill(self.name)

    def suspend(self, suspended: bool) -> None:
        self.place.suspend(self.name, suspended)

    def cut(self, cut: bool) -> None:
        self.place.cut(self.name, cut)

    def slow(self, speed: float) -> None:
        self.place.order("slow", self.name, speed)


@dataclass(eq=False)
class Place:
    """A process of the operating system, and the roles in it; a thread takes note of what it says, and of its end."""

    process: BaseProcess
    pipe: Connection
    changed: threading.Condition
    shared: bool
    relay: Relays | None = None
    roles: dict[str, FleetProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def listen(self) -> None:
        threading.Thread(target=self._read, name=f"read-{self.process.name}", daemon=True).start()

    def add(self, role: str, name: str) -> FleetProcess:
        with self.changed:
            added = self.roles[name] = FleetProcess(role, name, self)
        return added

    def order(self, order: str, name: str, value: Any = None) -> None:
        with self._lock:
            try:
                self.pipe.send((order, name, value))
            except OSError:  # it is gone, and the reading thread says so
                return

    def tell(self, name: str, replay: str) -> None:
        if self.relay is not None and replay:
            self.relay.retarget(replay)
            replay = self.relay.address
        self.order("tell", name, replay)

    def kill(self, name: str) -> None:
        if self.shared:
            self.order("kill", name)
        else:
            self.process.kill()

    def suspend(self, name: str, suspended: bool) -> None:
        if self.shared:
            self.order("suspend", name, suspended)
        elif self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGSTOP if suspended else signal.SIGCONT)

    def cut(self, name: str, cut: bool) -> None:
        if self.relay is not None:
            self.relay.cut(cut)
        else:
            self.order("cut", name, cut)

    def _read(self) -> None:
        while True:
            try:
                what, name, value = self.pipe.recv()
            except (EOFError, OSError):
                break
            with self.changed:
                if what == "up":
                    self.roles[name].described = Description(*value)
                else:
                    self._end(self.roles.pop(name), value)
                self.changed.notify_all()
        self.process.join()
        if self.relay is not None:
            self.relay.close()
        with self.changed:
            for role in self.roles.values():
                role.killed = True
                self._end(role, f"its process was killed, or crashed (exit code {self.process.exitcode})")
            self.roles.clear()
            self.changed.notify_all()

    def _end(self, role: FleetProcess, reason: str | None) -> None:
        role.ended, role.reason = True, reason


def spawn(name: str, main: Any, *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Start a process whose `main` gets one end of a pipe, and the arguments; the other end is returned."""
    ours, theirs = _FORK.Pipe()
    child = _FORK.Process(target=main, args=(theirs, *arguments), name=name, daemon=True)
    child.start()
    theirs.close()
    return child, ours


class FleetStarter:
    """See the module's docstring.

    Args:
        hosts: processes that share the generators.
        pace: of the synthetic learner.
        places: where the classes of the other roles are.
    """

    def __init__(self, hosts: int, pace: Pace, places: Mapping[str, str] = PLACES) -> None:
        self._hosts: list[Place | None] = [None] * hosts
        self._pace, self._places = pace, places
        self._turns, self._incarnations = itertools.count(), 0
        self._changed = threading.Condition()
        self._all: list[Place] = []
        _FORK.set_forkserver_preload(PRELOADED)
        ensure_running()  # it imports while the controller does

    def start(self, role: str, context: RoleContext, resources: Resources) -> FleetProcess:  # noqa: ARG002 - no cluster
        if role == "generator":
            place = self._host(next(self._turns) % len(self._hosts))
            started = place.add(role, context.name)
            place.order("start", context.name, context)
            return started
        options = {"pace": self._pace} if self._places[role] == PLACES["learner"] else {}
        relay = Relays(context.replay) if context.replay else None
        context = context if relay is None else replace(context, replay=relay.address)
        place = self._spawn(context.name, serve_role, self._places[role], context, options)
        place.relay = relay
        started = place.add(role, context.name)
        place.listen()
        return started

    def _host(self, number: int) -> Place:
        host = self._hosts[number]
        if host is None or not host.process.is_alive():
            self._incarnations += 1
            name = f"host-{self._incarnations}"
            host = self._hosts[number] = self._spawn(name, serve_generators, name)
            host.listen()
        return host

    def _spawn(self, name: str, main: Any, *arguments: Any) -> Place:
        child, pipe = spawn(name, main, *arguments)
        place = Place(child, pipe, self._changed, shared=main is serve_generators)
        self._all.append(place)
        return place

    def ended(self, processes: Sequence[Process], count: int, seconds: float) -> list[Ended]:
        mine = [p for p in processes if isinstance(p, FleetProcess)]
        with self._changed:
            self._changed.wait_for(lambda: sum(p.ended for p in mine) >= max(1, min(count, len(mine))), seconds)
            return [Ended(p, p.reason, killed=p.killed) for p in mine if p.ended]

    def living(self) -> list[FleetProcess]:
        """All that have not ended."""
        with self._changed:
            return [p for place in self._all for p in place.roles.values()]

    def up(self, role: str) -> list[FleetProcess]:
        """Those of a role that have come up, by name."""
        return sorted((p for p in self.living() if p.role == role and p.described), key=lambda p: p.name)

    def close(self) -> list[str]:
        """End whatever is left; the names of processes other than hosts that had not ended before."""
        left = [p.process.name for p in self._all if p.process.is_alive() and not p.shared]
        for place in self._all:
            place.pipe.close()
            place.process.kill()
            place.process.join(10)
        return left
