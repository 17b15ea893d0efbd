"""What a generator does with what the publisher says, whole or malformed."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from actors.config.network import NetworkConfig
from actors.transport.address import resolve
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import RouterSocket, open_router
from actors.weights.messages import MAX_BYTES
from actors.weights.subscriber import Subscriber

OPEN = {"master_address": "::1", "master_port": 9, "rank_offset": 1, "world_size": 2, "bucket_bytes": 64}
UPDATE: dict[str, Any] = {"names": ["w"], "dtype_names": ["float32"], "shapes": [[2, 3]]}


class FakeEngine:
    """Keeps what it is told."""

    workers = 2

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def open_group(self, info: dict[str, Any]) -> None:
        self.told.append(info)

    async def start_update(self) -> None:
        self.told.append("start")

    async def receive_update(self, info: dict[str, Any]) -> None:
        self.told.append(info)

    async def finish_update(self, version: int) -> float:
        if version == 13:
            raise MemoryError("no room")
        self.told.append(version)
        return 0.25


class Learner:
    """The publisher's side of the wire, in the hands of the test."""

    def __init__(self) -> None:
        self.router: RouterSocket = open_router(resolve(NetworkConfig(), in_cluster=False), 0, MAX_BYTES)
        self.engine = FakeEngine()

    async def heard(self) -> Message:
        assert await asyncio.to_thread(self.router.poll, 20)
        received = self.router.receive()
        assert received is not None
        self._identity, frames = received
        return decode(frames, MAX_BYTES)

    async def ask(self, kind: str, number: int, body: dict[str, Any]) -> Message:
        self.router.send(self._identity, encode(Message(kind, number, body)))
        return await self.heard()

    def talk(self, scenario: Any) -> None:
        async def run() -> None:
            task = asyncio.create_task(Subscriber(self.router.endpoint, "g", self.engine).run())
            registered = await self.heard()
            assert (registered.kind, registered.body) == ("register", {"name": "g", "workers": 2})
            await scenario()
            task.cancel()
            assert (await self.heard()).kind == "deregister"
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(run())


@pytest.fixture
def learner() -> Iterator[Learner]:
    found = Learner()
    yield found
    found.router.close()


def test_an_update_goes_to_the_engine_call_by_call(learner: Learner) -> None:
    async def scenario() -> None:
        for number, (kind, body) in enumerate(
            [("open", OPEN), ("start", {}), ("update", UPDATE), ("finish", {"version": 3})], start=1
        ):
            answer = await learner.ask(kind, number, body)
            assert (answer.kind, answer.id) == ("answer", number)
            assert not answer.body.get("error")
        assert answer.body["pause_seconds"] == 0.25

    learner.talk(scenario)
    assert learner.engine.told == [OPEN, "start", UPDATE, 3]


def test_what_breaks_in_the_engine_is_answered_and_the_next_call_is_carried_out(learner: Learner) -> None:
    async def scenario() -> None:
        answer = await learner.ask("finish", 1, {"version": 13})
        assert answer.body["error"] == "MemoryError: no room"
        assert not (await learner.ask("finish", 2, {"version": 4})).body.get("error")

    learner.talk(scenario)
    assert learner.engine.told == [4]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("open", {"master_address": "::1"}),
        ("open", OPEN | {"master_port": 0}),
        ("update", UPDATE | {"names": []}),
        ("update", UPDATE | {"code": "x"}),
        ("update", UPDATE | {"dtype_names": ["object"]}),
        ("finish", {"version": -1}),
        ("explode", {}),
    ],
)
def test_a_malformed_call_is_answered_with_an_error_and_ends_nothing(
    learner: Learner, kind: str, body: dict[str, Any]
) -> None:
    async def scenario() -> None:
        answer = await learner.ask(kind, 5, body)
        assert (answer.kind, answer.id) == ("answer", 5)
        assert kind in answer.body["error"]
        assert not (await learner.ask("start", 6, {})).body.get("error")

    learner.talk(scenario)
    assert learner.engine.told == ["start"]


def test_who_was_evicted_registers_anew(learner: Learner) -> None:
    async def scenario() -> None:
        assert (await learner.ask("rejoin", 0, {})).kind == "register"

    learner.talk(scenario)
