"""Weights over real Gloo groups: who receives what when generators come, go and die. The engine is a stub."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
import torch

from actors.config.network import NetworkConfig
from actors.config.roles import WeightsConfig
from actors.transport.address import resolve
from actors.weights import gloo, nccl
from actors.weights.background import in_background
from actors.weights.broadcast import BACKENDS
from actors.weights.group import GroupRank
from actors.weights.publisher import Publisher
from actors.weights.receiver import StagedReceiver
from actors.weights.subscriber import Subscriber

pytestmark = pytest.mark.e2e

DEADLINE_SECONDS = 20.0


class StubEngine(StagedReceiver):
    """Takes weights as an engine does, and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.version: int | None = None
        self.tensors: dict[str, torch.Tensor] = {}
        self.epochs = 0

    async def open_group(self, info: dict[str, Any]) -> None:
        self.epochs += 1
        await super().open_group(info)

    async def finish_update(self, version: int) -> float:
        self.tensors, self.version = dict(self.take()), version
        return 0.0


#: Where a generator can be suspended: within a call, before or after what it does.
STOPS = ("open", "opened", "start", "update", "transfer", "finish", "finished")


class SuspendedEngine(StubEngine):
    """Stands still at `stop` from its second epoch on until it is told to go on, as a suspended process does."""

    def __init__(self, stop: str) -> None:
        super().__init__()
        self._stop = stop
        self.armed = False
        self.stands, self.goes_on = asyncio.Event(), asyncio.Event()

    async def _at(self, place: str) -> None:
        if self.armed and place == self._stop:
            self.armed = False
            self.stands.set()
            await asyncio.shield(self.goes_on.wait())

    async def open_group(self, info: dict[str, Any]) -> None:
        await self._at("open")
        await super().open_group(info)
        await self._at("opened")

    async def start_update(self) -> None:
        await self._at("start")

    async def receive_update(self, info: dict[str, Any]) -> None:
        await self._at("update")
        if self.armed and self._stop == "transfer":
            self.armed = False
            self.stands.set()  # it says that it receives, and does not
            return
        await super().receive_update(info)

    async def finish_update(self, version: int) -> float:
        await self._at("finish")
        pause = await super().finish_update(version)
        await self._at("finished")
        return pause


class Generator:
    """A subscriber with a stub, in the test's event loop."""

    def __init__(self, address: str, name: str, engine: StubEngine | None = None) -> None:
        self._name, self.receiver = name, engine or StubEngine()
        self._subscriber = Subscriber(address, name, self.receiver, DEADLINE_SECONDS)
        self._task = asyncio.create_task(self._subscriber.run())

    async def follow(self, address: str) -> None:
        """Subscribe to another learner, as a generator does whose directory names one."""
        await self.leave()
        self._subscriber = Subscriber(address, self._name, self.receiver, DEADLINE_SECONDS)
        self._task = asyncio.create_task(self._subscriber.run())

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def die(self) -> None:
        """Without deregistering, as after SIGKILL: from now on nothing is sent."""
        self._subscriber._send = self._silent  # type: ignore[method-assign, assignment]
        await self.leave()

    async def _silent(self, *_: Any) -> None: ...


def tensors(version: int) -> list[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(version)
    return [(f"layer.{i}", torch.randn(7 * i + 1, 33, generator=generator)) for i in range(6)]


def holds(generator: Generator, version: int) -> bool:
    wanted, found = dict(tensors(version)), generator.receiver.tensors
    return generator.receiver.version == version and all(torch.equal(found[name], t) for name, t in wanted.items())


async def reached(publishing: Publisher, version: int) -> None:
    assert await asyncio.to_thread(publishing.wait, version, 40), f"version {version} did not reach every generator"


def with_publisher(
    scenario: Any, alive: set[str] | None = None, address: str | None = None, bucket_bytes: int = 4096
) -> None:
    """Run the scenario; `alive` is the list of members, of which a and b are unless it is given."""
    asyncio.run(publishing_to(scenario, {"a", "b"} if alive is None else alive, address, bucket_bytes))


async def publishing_to(
    scenario: Any, listed: set[str], address: str | None = None, bucket_bytes: int = 4096, backend: Any = "gloo"
) -> None:
    config = WeightsConfig(backend=backend, bucket_bytes=bucket_bytes, deadline_seconds=DEADLINE_SECONDS)
    node = resolve(NetworkConfig(advertise=address), in_cluster=False)
    publishing = Publisher(config, node, torch.float32, alive=lambda: frozenset(listed), timeout_seconds=30)
    try:
        await scenario(publishing)
    finally:
        await asyncio.to_thread(publishing.close)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_every_generator_receives_every_byte(address: str) -> None:
    async def scenario(publishing: Publisher) -> None:
        first, second = (Generator(publishing.endpoint, name) for name in ("a", "b"))
        for version in range(4):
            publishing.publish(version, tensors(version))
            await both(publishing, first, second, version)
        await first.leave()
        await second.leave()

    with_publisher(scenario, address=address)


async def both(publishing: Publisher, first: Generator, second: Generator, version: int) -> None:
    async def arrive() -> None:
        while not (holds(first, version) and holds(second, version)):
            await asyncio.sleep(0.02)

    await asyncio.wait_for(arrive(), 40)
    await reached(publishing, version)


def test_a_newcomer_gets_the_newest_version_and_the_others_are_left_alone() -> None:
    async def scenario(publishing: Publisher) -> None:
        first = Generator(publishing.endpoint, "a")
        publishing.publish(5, tensors(5))
        await reached(publishing, 5)
        epochs = first.receiver.epochs
        second = Generator(publishing.endpoint, "b")
        await both(publishing, first, second, 5)
        assert first.receiver.epochs == epochs, "a generator that had the weights was bothered"
        publishing.publish(6, tensors(6))
        await both(publishing, first, second, 6)
        await first.leave()
        await second.leave()

    with_publisher(scenario)


def test_a_dead_generator_does_not_hold_up_the_others() -> None:
    alive = {"a", "b"}

    async def scenario(publishing: Publisher) -> None:
        first, second = (Generator(publishing.endpoint, name) for name in ("a", "b"))
        publishing.publish(0, tensors(0))
        await both(publishing, first, second, 0)
        await second.die()
        publishing.publish(1, tensors(1))
        alive.discard("b")
        await reached(publishing, 1)
        assert holds(first, 1)
        assert second.receiver.version == 0
        await first.leave()

    with_publisher(scenario, alive)


def test_a_generator_that_is_back_on_the_list_gets_what_it_missed() -> None:
    alive = {"a", "b"}

    async def scenario(publishing: Publisher) -> None:
        first, second = (Generator(publishing.endpoint, name) for name in ("a", "b"))
        publishing.publish(0, tensors(0))
        await both(publishing, first, second, 0)
        alive.discard("b")
        publishing.publish(1, tensors(1))
        await reached(publishing, 1)
        assert second.receiver.version == 0, "it was off the list"
        alive.add("b")
        await both(publishing, first, second, 1)
        await first.leave()
        await second.leave()

    with_publisher(scenario, alive)


@pytest.mark.parametrize("back_at", [3, 5])
def test_what_generators_hold_already_a_learner_that_came_back_does_not_send_again(back_at: int) -> None:
    """It resumes from an earlier version, at another address, and its epochs begin anew."""

    async def scenario(publishing: Publisher) -> None:
        ahead = Generator(publishing.endpoint, "a")
        publishing.publish(5, tensors(5))
        await reached(publishing, 5)

        async def again(restarted: Publisher) -> None:
            await ahead.follow(restarted.endpoint)
            restarted.publish(back_at, tensors(back_at))
            await reached(restarted, back_at)
            fresh = Generator(restarted.endpoint, "b")
            await arrive(lambda: holds(fresh, back_at))
            assert holds(ahead, 5), "it was set back"
            restarted.publish(6, tensors(6))
            await both(restarted, ahead, fresh, 6)
            await ahead.leave()
            await fresh.leave()

        await publishing_to(again, {"a", "b"})

    with_publisher(scenario)


@pytest.mark.parametrize("stop", STOPS)
def test_one_that_stands_still_in_an_update_costs_the_other_nothing_and_comes_back(stop: str) -> None:
    alive = {"a", "b"}

    async def scenario(publishing: Publisher) -> None:
        engine = SuspendedEngine(stop)
        first, second = Generator(publishing.endpoint, "a"), Generator(publishing.endpoint, "b", engine)
        publishing.publish(0, large(0))
        await arrive(lambda: first.receiver.version == second.receiver.version == 0)
        if stop in ("open", "opened"):
            alive.discard("b")
            publishing.publish(1, large(1))  # for the first alone; then both are in a new epoch
            await arrive(lambda: first.receiver.version == 1)
            alive.add("b")
            await arrive(lambda: second.receiver.version == 1)
        engine.armed = True
        publishing.publish(2, large(2))
        await asyncio.wait_for(engine.stands.wait(), 40)
        alive.discard("b")
        await arrive(lambda: first.receiver.version == 2)
        engine.goes_on.set()
        alive.add("b")
        await arrive(lambda: second.receiver.version == 2)
        publishing.publish(3, large(3))
        await arrive(lambda: first.receiver.version == second.receiver.version == 3)
        for generator in (first, second):
            assert all(torch.equal(generator.receiver.tensors[name], t) for name, t in large(3))
            await generator.leave()

    with_publisher(scenario, alive)


async def arrive(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.02)


def large(version: int) -> list[tuple[str, torch.Tensor]]:
    """More than what fits into the buffers of a connection: who does not receive holds the sender up."""
    return [(f"layer.{i}", torch.full((2**21,), version + i / 8)) for i in range(4)]


class GlooLine:
    """Stands for a GPU with its communicator: bytes go through chunks of this process's memory, and by Gloo."""

    def __init__(self, rank: GroupRank) -> None:
        self.chunks = torch.empty(2**20, dtype=torch.uint8), torch.empty(2**20, dtype=torch.uint8)
        self._group = gloo.join(rank)
        self._before: Future[Any] | None = None
        self.aborted = False

    def copy(self, to: torch.Tensor, of: torch.Tensor) -> None:
        to.copy_(of)

    def broadcast(self, chunk: torch.Tensor) -> Callable[[], bool]:
        before = self._before

        def carry() -> None:
            if before is not None:
                before.result()  # as on a stream
            self._group.broadcast(chunk, 0).wait()

        self._before = in_background(carry, "line")
        return self._before.done

    def abort(self) -> None:
        self.aborted = True
        self._group.abort()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[GlooLine]:
    """The lines of the NCCL groups that are formed."""
    made: list[GlooLine] = []

    def join(rank: GroupRank) -> nccl.NcclGroup:
        made.append(GlooLine(rank))
        return nccl.NcclGroup(made[-1], rank.number == 0, rank.deadline_seconds)

    monkeypatch.setitem(BACKENDS, "nccl", replace(BACKENDS["nccl"], join=join))
    return made


def test_over_nccl_an_update_is_the_same_transaction(lines: list[GlooLine]) -> None:
    """In chunks that are smaller than a tensor; one that stands still is left behind, and the group is aborted by all
    who are in it."""
    alive = {"a", "b"}

    async def scenario(publishing: Publisher) -> None:
        engine = SuspendedEngine("transfer")
        first, second = Generator(publishing.endpoint, "a"), Generator(publishing.endpoint, "b", engine)
        publishing.publish(0, large(0))
        await arrive(lambda: first.receiver.version == second.receiver.version == 0)
        engine.armed = True
        publishing.publish(1, large(1))
        await asyncio.wait_for(engine.stands.wait(), 40)
        broken = list(lines)
        alive.discard("b")
        await arrive(lambda: first.receiver.version == 1)
        alive.add("b")
        await arrive(lambda: second.receiver.version == 1)
        await arrive(lambda: all(line.aborted for line in broken))
        for generator in (first, second):
            assert all(torch.equal(generator.receiver.tensors[name], t) for name, t in large(1))
            await generator.leave()

    asyncio.run(publishing_to(scenario, alive, backend="nccl"))
