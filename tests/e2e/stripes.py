"""Two ranks of a learner that send half of the weights each, and generators that take them: a process each, which can
kill or suspend itself at a chosen place of an update. The list of members is a real replay's.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from actors.config.loading import load
from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.membership import Report
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.ledger import ReplayLimits
from actors.replay.service import ReplayService
from actors.roles.learner.publishing import Publishing
from actors.transport.address import resolve
from actors.transport.client import Heartbeat
from actors.weights.receiver import StagedReceiver
from actors.weights.staging import Staging
from actors.weights.subscriber import Subscriber
from benchmarks.digest import digest
from learner import LearnerConfig, Trainer
from learner.config import LoraSettings
from tests.unit.actors.replay.test_buffer import Sums
from tests.unit.learner.distributed.two_ranks import join

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
CONFIG = LearnerConfig(dtype="float32", device="cpu", threads=1)
#: `weights.deadline_seconds`, and the list's timeout (s).
DEADLINE_SECONDS, TIMEOUT_SECONDS = 20.0, 3.0
BEAT_SECONDS = 0.3
#: Longest wait for anything else, such as a process that starts on a busy machine (s).
PATIENCE = 300.0
SENDER = "learner-rank-1"

Named = list[tuple[str, torch.Tensor]]
Digests = dict[str, str]


class Harmed(list[tuple[str, torch.Tensor]]):
    """Tensors in the middle of whose sending the process gets a signal: the second time that they are gone through,
    which is when they are sent."""

    def __init__(self, tensors: Named, number: int) -> None:
        super().__init__(tensors)
        self._signal, self._passes = number, 0

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        self._passes += 1
        for number, item in enumerate(super().__iter__()):
            if self._passes == 2 and number == len(self) // 2:
                os.kill(os.getpid(), self._signal)
            yield item


class HarmfulStaging(Staging):
    """Memory for an update, in the middle of which the process gets a signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._signal, self._taken = number, 0

    def take(self, size: int) -> torch.Tensor:
        self._taken += 1
        if self._taken == 4:
            os.kill(os.getpid(), self._signal)
        return super().take(size)


class KeepingEngine(StagedReceiver):
    """Keeps hashes of what it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.version: int | None = None
        self.digests: Digests = {}
        self.deltas: list[bool] = []

    async def receive_update(self, info: dict[str, Any]) -> None:
        assert len(info["stripes"]) == 2
        self.deltas.append(info["delta"])
        await super().receive_update(info)

    async def finish_update(self, version: int) -> float:
        self.digests, self.version = _digests(self.take()), version
        return 0.0


def _digests(tensors: Iterable[tuple[str, torch.Tensor]]) -> Digests:
    return {name: digest(tensor) for name, tensor in tensors}


def _alive(replay: str, name: str, role: str) -> Heartbeat:
    return Heartbeat(replay, name, role, BEAT_SECONDS, lambda: Report(ready=True))


def generate(pipe: Connection, replay: str, endpoint: str, name: str) -> None:
    """A generator without a model; the parent asks ("held",) and tells ("harm", signal)."""

    async def run() -> None:
        engine = KeepingEngine()
        subscribed = asyncio.create_task(Subscriber(endpoint, name, engine, DEADLINE_SECONDS).run())
        while not subscribed.done():
            if not pipe.poll():
                await asyncio.sleep(0.02)
                continue
            match pipe.recv():
                case ("held",):
                    pipe.send((engine.version, engine.digests, engine.deltas))
                case "harm", number:
                    engine.staging = HarmfulStaging(number)
                    pipe.send("armed")
                case ("end",):
                    subscribed.cancel()
                    await asyncio.gather(subscribed, return_exceptions=True)

    with closing(_alive(replay, name, "generator")):
        asyncio.run(run())


def send(
    pipe: Connection,
    replay: str,
    rank: int,
    port: int,
    model: Path,
    settings: list[str],
    log: Path,
    lora: LoraSettings | None,
) -> None:
    """A rank of the learner. It is told ("step",) and ("alone",), as both are at once; ("publish", signal), ("wait", s)
    and ("end",).
    """
    logging.basicConfig(filename=log, level=logging.INFO, force=True)
    join(rank, port, PATIENCE)
    recipe = load(QUICKSTART, settings)
    name = f"learner-rank-{rank}" if rank else "learner"
    syncs: list[int] = []
    with ExitStack() as open_:
        heartbeat = open_.enter_context(closing(_alive(replay, name, "learner")))
        node = resolve(NetworkConfig(), in_cluster=False)
        trainer = Trainer(CONFIG.model_copy(update={"lora": lora}), model, seed=0)
        told = lambda event: syncs.append(event.bytes)  # noqa: E731
        publishing = open_.enter_context(closing(Publishing(recipe, name, node, heartbeat, on_sync=told)))
        pipe.send((publishing.endpoint, publishing.senders))
        version, kept = -1, None
        while True:
            match pipe.recv():
                case ("step",):
                    version += 1
                    with torch.no_grad():
                        for parameter in trainer.model.parameters():
                            if parameter.requires_grad:
                                parameter.mul_(1.5).add_(2.0**-6)  # an adapter's B begins at zero
                    kept = list(trainer.snapshot(publishing.senders))
                    pipe.send(_digests(kept))
                case ("alone",):
                    pipe.send(_digests(trainer.snapshot([0])))
                case "publish", number:
                    assert kept is not None
                    publishing.publish(version, kept if number is None else Harmed(kept, number))
                case "wait", seconds:
                    pipe.send((publishing.wait(version, seconds), list(syncs)))
                case ("end",):
                    return


class Child:
    """The parent's end of a process."""

    def __init__(self, main: Callable[..., None], *arguments: Any) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=main, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def answer(self) -> Any:
        assert self.pipe.poll(PATIENCE), "a process does not answer"
        return self.pipe.recv()

    def ask(self, *command: Any) -> Any:
        self.pipe.send(command)
        return self.answer()

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    @property
    def stands(self) -> bool:
        """Whether it is suspended."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"


class StripedWorld:
    """Both ranks, and the replay.

    Args:
        folder: for logs.
        model: a folder with one.
        settings: overrides of the recipe.
        lora: adapters to train, instead of all weights.
    """

    def __init__(self, folder: Path, model: Path, *settings: str, lora: LoraSettings | None = None) -> None:
        torch.set_num_threads(1)
        self.log = folder / "learner.log"
        buffer = Buffer(ReplayLimits(max_staleness=0, groups_per_batch=1), 2, Sums())
        node = resolve(NetworkConfig(), in_cluster=False)
        self._replay = ReplayService(buffer, Board(TIMEOUT_SECONDS), node, 2**20)
        self._replay.start()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        chosen = ["cold_start=null", "learner.ranks=2", "learner.device=cpu", "weights.senders=2"]
        chosen += [f"weights.deadline_seconds={DEADLINE_SECONDS:g}", "weights.bucket_bytes=65536"]
        chosen += [f"membership.timeout_seconds={TIMEOUT_SECONDS:g}", "generators.dtype=float32", *settings]
        logs = self.log, folder / f"{SENDER}.log"
        self.ranks = [Child(send, self.address, rank, port, model, chosen, logs[rank], lora) for rank in range(2)]
        self._others: list[Child] = []
        (self.endpoint, self.senders), _ = (rank.answer() for rank in self.ranks)
        self._beats: list[Heartbeat] = []

    @property
    def address(self) -> str:
        return self._replay.address

    def generator(self, name: str) -> Child:
        self._others.append(Child(generate, self.address, self.endpoint, name))
        return self._others[-1]

    def beat_for(self, name: str) -> None:
        """Keep somebody on the list who does not report itself."""
        self._beats.append(_alive(self.address, name, "generator"))

    def step(self) -> list[Digests]:
        """Make the next version; what each rank has of it."""
        return self._ask_both("step")

    def from_one_sender(self) -> Digests:
        """The newest version as the first rank would have it if it sent all of it."""
        first, second = self._ask_both("alone")
        assert not second
        return first

    def _ask_both(self, command: str) -> list[Digests]:
        for rank in self.ranks:
            rank.pipe.send((command,))
        return [rank.answer() for rank in self.ranks]

    def publish(self, harm: int | None = None) -> None:
        """Offer it on both ranks; the second gets the signal `harm` when it has sent half of its own."""
        self.ranks[0].pipe.send(("publish", None))
        self.ranks[1].pipe.send(("publish", harm))

    def arrived(self, seconds: float = 0.8 * PATIENCE) -> bool:
        """Whether every generator that is alive has it."""
        reached: bool = self.ranks[0].ask("wait", seconds)[0]
        return reached

    def synced_bytes(self) -> list[int]:
        found: list[int] = self.ranks[0].ask("wait", 0.0)[1]
        return found

    def close(self) -> None:
        for beat in self._beats:
            beat.close()
        for child in (*self._others, *self.ranks):
            if child.process.is_alive():
                child.process.kill()
            child.process.join(10)
        self._replay.stop()


def held(generator: Child) -> tuple[int | None, Digests, list[bool]]:
    """What a generator has: version, hashes, and which of its updates were changes alone."""
    found: tuple[int | None, Digests, list[bool]] = generator.ask("held")
    return found


def holds(generator: Child, version: int, halves: list[Digests]) -> bool:
    """Whether it comes to hold this version, bit for bit."""
    whole = halves[0] | halves[1]
    return until(lambda: held(generator)[:2] == (version, whole), PATIENCE)


def logged(world: StripedWorld, words: str) -> bool:
    """Whether the first rank comes to say so."""
    return until(lambda: words in world.log.read_text(), PATIENCE)
