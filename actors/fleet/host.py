"""One process of a synthetic fleet: many generators in one event loop, or any other role alone."""

import asyncio
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from actors import process
from actors.control.root_cause import in_one_line
from actors.fleet.generator import FleetGenerator
from actors.models.tokenizer import load_tokenizer
from actors.roles.role import RoleContext, enter
from actors.tasks.templates import Renderer

log = logging.getLogger(__name__)

#: What a host is told of a generator, beside `start`: name of the order, name of the generator, value.
Order = tuple[str, str, Any]


@dataclass
class Host:
    """Generators by name, and the loop's end of the pipe to the starter."""

    pipe: Connection
    name: str
    _generators: dict[str, tuple[FleetGenerator, "asyncio.Task[None]"]] = field(default_factory=dict)
    _metrics: str = ""

    async def run(self) -> None:
        """Until the starter is gone."""
        loop, orders = asyncio.get_running_loop(), asyncio.Queue[Order | None]()

        def read() -> None:
            while (order := receive(self.pipe)) is not None:
                loop.call_soon_threadsafe(orders.put_nowait, order)
            loop.call_soon_threadsafe(orders.put_nowait, None)

        threading.Thread(target=read, name="orders", daemon=True).start()
        while (order := await orders.get()) is not None:
            self._obey(*order)

    def _obey(self, order: str, name: str, value: Any) -> None:
        if order == "start":
            self._start(value)
            return
        if name not in self._generators:
            return  # it has ended meanwhile
        generator, running = self._generators[name]
        match order:
            case "tell":
                generator.lifeline.told(value)
            case "stop":
                generator.stop()
            case "drain":
                generator.drain()
            case "kill":
                generator.link.cut(True)
                running.cancel()
            case "cut":
                generator.link.cut(value)
            case "suspend":
                generator.link.suspend(value)
            case "slow":
                generator.engine.speed = value

    def _start(self, context: RoleContext) -> None:
        if not self._generators and not self._metrics:
            self._metrics = enter(
                context.recipe, context.storage.folder, self.name, "generator", context.replay
            ).metrics
            self._tokenizer = load_tokenizer(context.storage.model_folder)
            self._renderer = Renderer(context.recipe.tasks, self._tokenizer)
        generator = FleetGenerator(context, self._renderer, self._tokenizer, self._metrics)
        running = asyncio.create_task(generator.run(), name=context.name)
        running.add_done_callback(self._ended)
        self._generators[context.name] = generator, running
        self.pipe.send(("up", context.name, (self._metrics, "")))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        reason = None
        if task.cancelled():
            reason = "it was killed"
        elif (error := task.exception()) is not None:
            log.error("%s ends", task.get_name(), exc_info=error)
            reason = f"{type(error).__name__}: {in_one_line(str(error))}"
        del self._generators[task.get_name()]
        self.pipe.send(("ended", task.get_name(), reason))


def receive(pipe: Connection) -> Any:
    """The next order; None where the starter is gone."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def serve_generators(pipe: Connection, name: str) -> None:
    """The main function of a process of generators."""
    asyncio.run(Host(pipe, name).run())
    os._exit(0)  # whatever is left has nobody to tell


def serve_role(pipe: Connection, place: str, context: RoleContext, options: Mapping[str, Any]) -> None:
    """The main function of a process with one role, whose class is at `place`; it ends with the starter."""
    process.print_to_log(context.storage.folder, context.name)
    module, _, name = place.partition(":")
    try:
        role = getattr(import_module(module), name)(context, **options)
        described = role.describe()

        def obey() -> None:
            while (order := receive(pipe)) is not None:
                what, _, value = order
                if what == "tell":
                    context.lifeline.told(value)
                elif what == "drain":
                    role.drain()
                elif what == "stop":
                    role.stop()
            os._exit(1)

        threading.Thread(target=obey, name="orders", daemon=True).start()
        pipe.send(("up", context.name, (described.metrics, described.address)))
        role.run()
    except Exception as error:
        log.exception("this process ends")
        pipe.send(("ended", context.name, f"{type(error).__name__}: {in_one_line(str(error))}"))
        raise
    pipe.send(("ended", context.name, None))
