"""What a generator does with what the publisher says, whole or malformed, and where it says nothing any more."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.config.network import NetworkConfig
from actors.errors import EngineError
from actors.transport.address import resolve
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import RouterSocket, open_router
from actors.weights import subscriber as module
from actors.weights.messages import MAX_BYTES
from actors.weights.subscriber import Subscriber

#: Longer than any test takes: what ends sooner was not ended by it (s).
NEVER = 300.0
PATIENCE = 20.0
GROUP = {"backend": "gloo", "master_address": "::1", "master_port": 9, "rank_offset": 1, "world_size": 2}
GROUP |= {"bucket_bytes": 64, "deadline_seconds": 20.0}
TENSORS: dict[str, Any] = {"names": ["w"], "dtype_names": ["float32"], "shapes": [[2, 3]], "delta": False}
OPEN, START, UPDATE, FINISH = GROUP | {"epoch": 1}, {"epoch": 1}, TENSORS | {"epoch": 1}, {"version": 3, "epoch": 1}
CALLS: list[tuple[str, dict[str, Any]]] = [("open", OPEN), ("start", START), ("update", UPDATE), ("finish", FINISH)]


class FakeEngine:
    """Keeps what it is told. What it does in `hangs` never ends; the weights come once `bytes_here` is set."""

    workers = 2

    def __init__(self) -> None:
        self.version: int | None = None
        self.told: list[Any] = []
        self.hangs: set[str] = set()
        self.broken = ""
        self.bytes_here = asyncio.Event()
        self.bytes_here.set()

    async def _do(self, what: Any, call: str) -> None:
        self.told.append(what)
        if call in self.hangs:
            await asyncio.Event().wait()

    async def open_group(self, info: dict[str, Any]) -> None:
        await self._do(info, "open")

    async def start_update(self) -> None:
        await self._do("start", "start")

    async def receive_update(self, info: dict[str, Any]) -> None:
        await self._do(info, "update")

    async def received(self) -> None:
        await self.bytes_here.wait()

    async def finish_update(self, version: int) -> float:
        if version == 13:
            raise MemoryError("no room")
        if version == 14:
            raise EngineError("half of two versions")
        await self._do(version, "finish")
        self.version = version
        return 0.25

    async def abort_update(self) -> None:
        await self._do("abort", "abort")
        if self.broken:
            raise EngineError(self.broken)


class Learner:
    """The publisher's side of the wire, in the hands of the test."""

    def __init__(self) -> None:
        self.router: RouterSocket = open_router(resolve(NetworkConfig(), in_cluster=False), 0, MAX_BYTES)
        self.engine = FakeEngine()

    async def heard(self) -> Message:
        assert await asyncio.to_thread(self.router.poll, PATIENCE)
        received = self.router.receive()
        assert received is not None
        self._identity, frames = received
        return decode(frames, MAX_BYTES)

    def tell(self, kind: str, number: int, body: dict[str, Any]) -> None:
        self.router.send(self._identity, encode(Message(kind, number, body)))

    async def ask(self, kind: str, number: int, body: dict[str, Any]) -> Message:
        self.tell(kind, number, body)
        return await self.heard()

    async def ask_all(self, calls: list[tuple[str, dict[str, Any]]]) -> None:
        for number, (kind, body) in enumerate(calls, start=1):
            answer = await self.ask(kind, number, body)
            assert (answer.kind, answer.id, answer.body.get("error")) == ("answer", number, None)

    def lose_patience(self, seconds: float) -> None:
        """The generator has this deadline from now on, and not before all that was asked is answered."""
        self._subscriber._deadline = seconds

    async def until_told(self, what: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            while what not in self.engine.told:
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def subscribed(self) -> AsyncIterator["asyncio.Task[None]"]:
        self._subscriber = Subscriber(self.router.endpoint, "g", self.engine, NEVER)
        task = asyncio.create_task(self._subscriber.run())
        registered = await self.heard()
        assert (registered.kind, registered.body) == ("register", {"name": "g", "workers": 2, "version": None})
        yield task
        task.cancel()
        assert (await self.heard()).kind == "deregister"
        await asyncio.gather(task, return_exceptions=True)

    def talk(self, scenario: Callable[[], Any]) -> None:
        async def run() -> None:
            async with self.subscribed():
                await scenario()

        asyncio.run(run())


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Learner]:
    monkeypatch.setattr(module, "REGISTER_SECONDS", NEVER)  # or a slow machine would hear it among the answers
    found = Learner()
    yield found
    found.router.close()


def test_an_update_goes_to_the_engine_call_by_call(learner: Learner) -> None:
    async def scenario() -> None:
        await learner.ask_all(CALLS[:3])
        assert (await learner.ask("finish", 4, FINISH)).body["pause_seconds"] == 0.25
        await learner.ask_all(CALLS[1:])

    learner.talk(scenario)
    assert learner.engine.told == [GROUP, "start", TENSORS, 3, "start", TENSORS, 3, "abort"]


def test_what_breaks_in_the_engine_is_answered_and_given_up(learner: Learner) -> None:
    async def scenario() -> None:
        await learner.ask_all(CALLS[:3])
        answer = await learner.ask("finish", 4, FINISH | {"version": 13})
        assert answer.body["error"] == "MemoryError: no room"
        await learner.until_told("abort")
        await learner.ask_all(CALLS)

    learner.talk(scenario)
    assert learner.engine.told == [GROUP, "start", TENSORS, "abort", GROUP, "start", TENSORS, 3, "abort"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("open", {"master_address": "::1", "epoch": 1}),
        ("open", OPEN | {"master_port": 0}),
        ("open", GROUP),
        ("update", UPDATE | {"names": []}),
        ("update", UPDATE | {"code": "x"}),
        ("update", UPDATE | {"dtype_names": ["object"]}),
        ("finish", FINISH | {"version": -1}),
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
        await learner.ask_all(CALLS)

    learner.talk(scenario)


def test_who_was_evicted_registers_anew(learner: Learner) -> None:
    async def scenario() -> None:
        assert (await learner.ask("rejoin", 0, {})).kind == "register"

    learner.talk(scenario)


# ---------------------------------------------------------------- updates that somebody else breaks


@pytest.mark.parametrize("done", range(1, 4))
@pytest.mark.parametrize("how", ["abort", "rejoin", "open"])
def test_an_update_that_is_given_up_leaves_the_engine_ready_for_the_next(learner: Learner, done: int, how: str) -> None:
    async def scenario() -> None:
        await learner.ask_all(CALLS[:done])
        if how == "abort":
            learner.tell("abort", 0, {"epoch": 1})
        elif how == "rejoin":
            assert (await learner.ask("rejoin", 0, {})).kind == "register"
        await learner.ask_all([(kind, body | {"epoch": 2}) for kind, body in CALLS])

    learner.talk(scenario)
    told = [GROUP, "start", TENSORS, 3]
    assert learner.engine.told == [*told[:done], "abort", *told, "abort"]


@pytest.mark.parametrize("hangs", ["open", "start", "update", "finish"])
def test_a_call_that_does_not_end_is_given_up_with_its_update(learner: Learner, hangs: str) -> None:
    async def scenario() -> None:
        done = [kind for kind, _ in CALLS].index(hangs)
        await learner.ask_all(CALLS[:done])
        learner.engine.hangs = {hangs}
        learner.tell(hangs, 9, CALLS[done][1])
        learner.tell("abort", 0, {"epoch": 1})
        await learner.until_told("abort")
        learner.engine.hangs = set()
        await learner.ask_all([(kind, body | {"epoch": 2}) for kind, body in CALLS])

    learner.talk(scenario)
    assert learner.engine.told[-5:] == [GROUP, "start", TENSORS, 3, "abort"]


def test_a_commit_that_waits_for_bytes_which_never_come_is_given_up(learner: Learner) -> None:
    async def scenario() -> None:
        learner.engine.bytes_here.clear()
        await learner.ask_all(CALLS[:3])
        learner.tell("finish", 4, FINISH)
        assert (await learner.ask("rejoin", 0, {})).kind == "register"
        learner.engine.bytes_here.set()
        await learner.ask_all([(kind, body | {"epoch": 2}) for kind, body in CALLS])

    learner.talk(scenario)
    assert learner.engine.told == [GROUP, "start", TENSORS, "abort", GROUP, "start", TENSORS, 3, "abort"]


@pytest.mark.parametrize("stale", ["start", "update", "finish"])
def test_a_call_of_an_epoch_that_was_given_up_changes_nothing(learner: Learner, stale: str) -> None:
    async def scenario() -> None:
        await learner.ask_all(CALLS[:1])
        learner.tell("open", 2, OPEN | {"epoch": 2})
        assert not (await learner.heard()).body.get("error")
        answer = await learner.ask(stale, 3, dict(CALLS)[stale])
        assert f"{stale} of epoch 1, but epoch 2 is opened here" in answer.body["error"]
        learner.tell("abort", 0, {"epoch": 1})
        await learner.ask_all([(kind, body | {"epoch": 2}) for kind, body in CALLS[1:]])

    learner.talk(scenario)
    assert learner.engine.told == [GROUP, "abort", GROUP, "start", TENSORS, 3, "abort"]


@pytest.mark.parametrize("done", [2, 3])
def test_an_engine_goes_on_by_itself_where_the_learner_falls_silent(learner: Learner, done: int) -> None:
    async def scenario() -> None:
        await learner.ask_all(CALLS[:done])
        learner.lose_patience(0.5)
        await learner.until_told("abort")
        kind, body = CALLS[done]
        assert "none is open here" in (await learner.ask(kind, 9, body)).body["error"]

    learner.talk(scenario)


def test_a_transfer_that_takes_longer_than_the_deadline_is_no_silence(learner: Learner) -> None:
    async def scenario() -> None:
        learner.engine.bytes_here.clear()
        await learner.ask_all(CALLS[:3])
        learner.lose_patience(0.5)
        await asyncio.sleep(2.0)  # in which it must not be given up
        assert learner.engine.told[-1] == TENSORS
        learner.engine.bytes_here.set()

    learner.talk(scenario)


def test_between_two_updates_a_learner_may_be_silent(learner: Learner) -> None:
    async def scenario() -> None:
        await learner.ask_all(CALLS)
        learner.lose_patience(0.5)
        await asyncio.sleep(2.0)  # in which nothing must happen
        assert learner.engine.told[-1] == 3

    learner.talk(scenario)


def test_it_says_again_that_it_is_there(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learner may have forgotten it, or know it by a connection that is no more."""
    monkeypatch.setattr(module, "REGISTER_SECONDS", 0.05)

    async def run() -> None:
        task = asyncio.create_task(Subscriber(learner.router.endpoint, "g", learner.engine, NEVER).run())
        for _ in range(3):
            assert (await learner.heard()).kind == "register"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


# ---------------------------------------------------------------- engines that cannot go on


def ends(learner: Learner, calls: list[tuple[str, dict[str, Any]]], deadline_seconds: float = NEVER) -> str:
    """The message of the error that ends the generator after these calls, of which the last is not waited for."""

    async def run() -> str:
        with pytest.raises(EngineError) as error:
            async with learner.subscribed() as task:
                await learner.ask_all(calls[:-1])
                learner.lose_patience(deadline_seconds)
                learner.tell(calls[-1][0], 99, calls[-1][1])
                await asyncio.wait_for(task, PATIENCE)
        return str(error.value)

    return asyncio.run(run())


def test_an_engine_of_two_versions_ends_its_generator(learner: Learner) -> None:
    assert ends(learner, [*CALLS[:3], ("finish", FINISH | {"version": 14})]) == "half of two versions"
    assert "abort" not in learner.engine.told, "there is nothing to go back to"


def test_an_engine_that_cannot_give_an_update_up_ends_its_generator(learner: Learner) -> None:
    learner.engine.broken = "weights were overwritten"
    assert ends(learner, [*CALLS[:3], ("abort", {"epoch": 1})]) == "weights were overwritten"


def test_an_engine_that_does_not_come_back_ends_its_generator(learner: Learner) -> None:
    learner.engine.hangs = {"abort"}
    said = ends(learner, [*CALLS[:2], ("abort", {"epoch": 1})], deadline_seconds=0.5)
    assert "did not give an update up within 0.5 s" in said
