"""Processes that hold a `transformers` engine and take weights, for `python -m benchmarks weights`."""

import asyncio
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from actors.config.roles import GeneratorsConfig
from actors.engines.transformers import TransformersEngine
from actors.transport.address import host_port, own_address
from actors.transport.store import reach_store
from actors.weights import gloo
from actors.weights.group import GroupRank
from actors.weights.subscriber import Subscriber

STARTUP_SECONDS = 300.0


class Child:
    """What runs in the process: commands come over the pipe as tuples, a name first, and are answered likewise."""

    def __init__(self, pipe: Connection, model: Path, name: str) -> None:
        self._pipe, self._name = pipe, name
        self._engine = TransformersEngine(GeneratorsConfig(engine="transformers"), model, _NoTokenizer(), 0)
        self._subscription: asyncio.Task[None] | None = None

    async def run(self) -> None:
        await self._engine.start()
        self._pipe.send(("up",))
        while True:
            try:
                command = await asyncio.to_thread(self._pipe.recv)
            except EOFError:
                return
            match command:
                case "subscribe", endpoint, deadline:
                    subscriber = Subscriber(endpoint, self._name, self._engine, deadline)
                    self._subscription = asyncio.create_task(subscriber.run())
                    self._pipe.send(("subscribed",))
                case "bare", *arguments:
                    await asyncio.to_thread(_take_bare, *arguments)
                    self._pipe.send(("bare",))


class _NoTokenizer:
    """Nothing is generated; the engine asks for the end of a sequence alone."""

    eos_token_id, pad_token_id, chat_template = 0, 0, None


def _take_bare(host: str, port: int, rank: int, world: int, sizes: list[int], deadline: float) -> None:
    memory = torch.zeros(max(sizes), dtype=torch.uint8)
    store = reach_store(host_port(host, port), world, deadline)
    group = gloo.join(GroupRank(store, rank, world, own_address(host), torch.device("cpu"), deadline))
    for size in (1, *sizes):
        group.broadcast(memory[:size], 0).wait()


def _main(pipe: Connection, model: Path, name: str) -> None:
    asyncio.run(Child(pipe, model, name).run())


class ReceiverProcess:
    """The parent's end of one such process."""

    def __init__(self, model: Path, name: str) -> None:
        self.name = name
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, model, name), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, answer: str, *command: Any) -> None:
        self.pipe.send(command)
        self.answer(answer, STARTUP_SECONDS)

    def answer(self, wanted: str, seconds: float) -> None:
        """Wait for an answer; what came before is passed over.

        Raises:
            TimeoutError: where it does not come.
        """
        deadline = time.monotonic() + seconds
        while self.pipe.poll(max(0.0, deadline - time.monotonic())):
            if self.pipe.recv()[0] == wanted:
                return
        raise TimeoutError(f"{self.name} did not answer {wanted!r} within {seconds:g} s")

    def end(self) -> None:
        self._process.kill()
        self._process.join(10)
