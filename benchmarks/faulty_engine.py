"""A process with one real vLLM engine that stops or kills itself at a named step of a weight update, when it is told.

Everything from the subscriber inwards is what a generator runs. Process and parent talk over a pipe, the process in a
session of its own, so that a signal reaches all that vLLM has started.
"""

import asyncio
import os
import signal
import threading
import time
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from actors.config.roles import GeneratorsConfig, SamplingConfig, VllmConfig
from actors.engines.vllm import VllmEngine, set_environment
from actors.models.tokenizer import load_tokenizer
from actors.weights.subscriber import Subscriber

#: Where an engine can be hit by itself, in the order of an update; the parent hits it during the transfer.
STEPS = ("before open", "after open", "after start", "after update", "before finish", "after finish")
HEARTBEAT_SECONDS = 0.2
PROMPT = [8, 9, 10, 11]


class FaultyReceiver:
    """Passes everything on to the engine; `armed` is a step and the signal that the process sends to itself there."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine, self.workers = engine, engine.workers
        self.armed: tuple[str, int] | None = None

    @property
    def version(self) -> int | None:
        return self._engine.version

    def _reached(self, step: str) -> None:
        if self.armed is not None and self.armed[0] == step:
            number, self.armed = self.armed[1], None
            os.killpg(os.getpgrp(), number)

    async def open_group(self, info: dict[str, Any]) -> None:
        self._reached("before open")
        await self._engine.open_group(info)
        self._reached("after open")

    async def start_update(self) -> None:
        await self._engine.start_update()
        self._reached("after start")

    async def receive_update(self, info: dict[str, Any]) -> None:
        await self._engine.receive_update(info)
        self._reached("after update")

    async def received(self) -> None:
        await self._engine.received()

    async def finish_update(self, version: int) -> float:
        self._reached("before finish")
        pause = await self._engine.finish_update(version)
        self._reached("after finish")
        return pause

    async def abort_update(self) -> None:
        await self._engine.abort_update()


class Child:
    """What runs in the process. Commands are tuples, a name first; what it sends is a name and a value."""

    def __init__(self, pipe: Connection, model: Path, name: str, deadline_seconds: float) -> None:
        self._pipe, self._model, self._name, self._deadline = pipe, model, name, deadline_seconds
        self._sending = threading.Lock()
        self._commands: asyncio.Queue[Any] = asyncio.Queue()

    def _send(self, kind: str, value: Any = None) -> None:
        with self._sending:
            self._pipe.send((kind, value))

    def _beat(self, engine: VllmEngine) -> None:
        while True:
            self._send("beat", engine.version)
            time.sleep(HEARTBEAT_SECONDS)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                loop.call_soon_threadsafe(self._commands.put_nowait, self._pipe.recv())
        except (EOFError, OSError):
            os.killpg(os.getpgrp(), signal.SIGKILL)  # the parent is gone, and nobody else ends what vLLM has started

    async def run(self) -> None:
        threading.Thread(target=self._listen, args=(asyncio.get_running_loop(),), daemon=True).start()
        vllm = VllmConfig(
            max_model_len=128, max_num_seqs=8, engine_args={"worker_extension_cls": "benchmarks.digest.Digest"}
        )
        tokenizer = load_tokenizer(self._model)
        engine = VllmEngine(GeneratorsConfig(dtype="float32", vllm=vllm), self._model, tokenizer, seed=1)
        engine._ends = []  # so that every completion has as many tokens as it is asked for
        await engine.start()
        self._send("up")
        receiver = FaultyReceiver(engine)
        tasks: list[asyncio.Task[None]] = []
        while True:
            command = asyncio.ensure_future(self._commands.get())
            await asyncio.wait({command, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # it ends the process, as it ends a generator
            match await command:
                case "subscribe", endpoint:
                    threading.Thread(target=self._beat, args=(engine,), daemon=True).start()
                    tasks.append(asyncio.create_task(Subscriber(endpoint, self._name, receiver, self._deadline).run()))
                case "arm", step, number:
                    receiver.armed = (step, number)
                    self._send("armed")
                case ("inspect",):
                    self._send("inspected", await self._inspect(engine))

    async def _inspect(self, engine: VllmEngine) -> dict[str, Any]:
        """The parameters that the workers multiply with, and the version of a completion that is sampled now."""
        digests: list[dict[str, str]] = await engine._engine.collective_rpc("parameter_digests")
        (completion,) = await engine.generate(PROMPT, 1, SamplingConfig(max_tokens=4))
        return {"digests": digests[0], "versions": [version for version, _ in completion.spans]}


def _main(pipe: Connection, model: Path, name: str, deadline_seconds: float) -> None:
    os.setsid()
    asyncio.run(Child(pipe, model, name, deadline_seconds).run())


def preload() -> None:
    """Let engines start from a process that has imported vLLM already: a third of what their start costs."""
    before = dict(os.environ)
    set_environment(GeneratorsConfig())
    try:
        forkserver.set_forkserver_preload([__name__, "vllm.v1.engine.async_llm"])
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


class EngineProcess:
    """The parent's end of one such process, which is coming up; `up` once it is."""

    def __init__(self, model: Path, name: str, deadline_seconds: float) -> None:
        self.name, self.up, self.version = name, False, -1
        self.heard: dict[str, Any] = {}
        context = get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        self.process: ForkServerProcess = context.Process(target=_main, args=(theirs, model, name, deadline_seconds))
        self.process.start()
        theirs.close()

    def take(self) -> bool:
        """Read what it has sent; whether a heartbeat was among it."""
        beat = False
        try:
            while self.pipe.poll():
                kind, value = self.pipe.recv()
                if kind == "beat":
                    beat, self.version = True, -1 if value is None else value
                elif kind == "up":
                    self.up = True
                else:
                    self.heard[kind] = value
        except (EOFError, OSError):
            return beat
        return beat

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.killpg(self.process.pid, number)

    @property
    def alive(self) -> bool:
        return self.process.is_alive()
