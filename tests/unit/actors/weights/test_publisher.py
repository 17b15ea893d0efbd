"""Who gets weights, when generators come, fail, fall off the list of members and come back. Nothing is broadcast."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

from actors.config.network import NetworkConfig
from actors.config.roles import WeightsConfig
from actors.deadline import until
from actors.events import WeightSync
from actors.observability import metrics
from actors.transport.address import resolve
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import DealerSocket
from actors.weights import publisher as module
from actors.weights.messages import MAX_BYTES
from actors.weights.publisher import Publisher
from actors.weights.session import SyncClient, Tensors

#: Longer than any test takes: what ends sooner was not ended by it (s).
NEVER = 300.0
PATIENCE = 20.0


class FakeTransport:
    """Makes the calls of an update, and sends nothing."""

    def __init__(self, client: SyncClient, world_size: int, **_: Any) -> None:
        self._client = client
        info = {"master_address": "::1", "master_port": 1, "rank_offset": 1, "world_size": world_size}
        client.init_weight_transfer_engine(info)

    def send(self, tensors: Tensors) -> int:
        self._client.start_weight_update()
        self._client.update_weights({"names": ["w"], "dtype_names": ["float32"], "shapes": [[1]]})
        self._client.finish_weight_update()
        return sum(tensor.nbytes for _, tensor in tensors)

    def close(self) -> None: ...


class FakeGenerator:
    """Registers and answers every call, but those in `fails`; while it is `suspended` it does neither."""

    def __init__(self, endpoint: str, name: str, workers: int = 1) -> None:
        self.name, self._workers = name, workers
        self.versions: list[int] = []
        self.opened: list[dict[str, Any]] = []
        self.registrations = 0
        self.fails: set[str] = set()
        self.suspended = False
        self.asked: list[str] = []
        self._socket = DealerSocket(endpoint, MAX_BYTES)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._register()
        while not self._stopping.is_set():
            if self._socket.poll(0.01):
                self._handle(decode(self._socket.receive(), MAX_BYTES))

    def _register(self) -> None:
        self.registrations += 1
        self._send("register", 0, {"workers": self._workers})

    def _send(self, kind: str, number: int, body: Mapping[str, Any]) -> None:
        self._socket.send(encode(Message(kind, number, {"name": self.name, **body})))

    def _handle(self, message: Message) -> None:
        self.asked.append(message.kind)
        if self.suspended:
            return
        if message.kind == "rejoin":
            self._register()
            return
        if message.kind == "open":
            self.opened.append(dict(message.body))
        if message.kind == "finish" and "finish" not in self.fails:
            self.versions.append(message.body["version"])
        self._send("answer", message.id, {"error": "no memory"} if message.kind in self.fails else {})

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        self._socket.close()


class World:
    """A publisher, its generators, and the list of members that it believes."""

    def __init__(self, timeout_seconds: float) -> None:
        self.alive: set[str] = set()
        self.syncs: list[WeightSync] = []
        self._generators: list[FakeGenerator] = []
        self.publisher = Publisher(
            WeightsConfig(deadline_seconds=NEVER),
            resolve(NetworkConfig(), in_cluster=False),
            torch.float32,
            alive=lambda: frozenset(self.alive),
            timeout_seconds=timeout_seconds,
            on_sync=self.syncs.append,
        )

    def generator(self, name: str, workers: int = 1, listed: bool = True) -> FakeGenerator:
        if listed:
            self.alive.add(name)
        self._generators.append(FakeGenerator(self.publisher.endpoint, name, workers))
        return self._generators[-1]

    def publish(self, version: int) -> None:
        self.publisher.publish(version, [("w", torch.zeros(1))])

    def close(self) -> None:
        self.alive.clear()  # whoever is waited for is waited for no longer
        for generator in self._generators:
            generator.close()
        self.publisher.close()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], World]]:
    monkeypatch.setitem(module.TRANSPORTS, "gloo", FakeTransport)
    worlds: list[World] = []

    def begin(timeout_seconds: float = NEVER) -> World:
        worlds.append(World(timeout_seconds))
        return worlds[-1]

    yield begin
    for each in worlds:
        each.close()


Begin = Callable[..., World]


def test_every_worker_of_every_generator_has_a_rank_of_its_own(world: Begin) -> None:
    w = world()
    first, second = w.generator("a", workers=2), w.generator("b", workers=3)
    assert until(lambda: len(w.publisher._members) == 2, PATIENCE)
    w.publish(0)
    assert w.publisher.wait(0, PATIENCE)
    assert (first.opened[-1]["rank_offset"], second.opened[-1]["rank_offset"]) == (1, 3)
    assert first.opened[-1]["world_size"] == 6
    assert until(lambda: bool(w.syncs), PATIENCE)
    assert w.syncs[-1].members == 2


def test_a_generator_that_falls_off_the_list_is_skipped_and_served_again_once_it_is_back(world: Begin) -> None:
    w = world()
    first, second = w.generator("a"), w.generator("b")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    w.alive.discard("b")
    w.publish(1)
    assert w.publisher.wait(1, PATIENCE), "who is off the list is not waited for"
    assert (first.versions, second.versions) == ([0, 1], [0])
    w.alive.add("b")
    assert until(lambda: second.versions == [0, 1], PATIENCE)
    assert first.versions == [0, 1]
    assert second.registrations == 1, "it did not have to register anew"


def test_an_update_stops_waiting_for_whoever_falls_off_the_list(world: Begin) -> None:
    w = world()
    first, second = w.generator("a"), w.generator("b")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    second.suspended = True
    w.publish(1)
    assert until(lambda: len(second.asked) > 4, PATIENCE), "of the update before: open, start, update, finish"
    w.alive.discard("b")
    assert w.publisher.wait(1, PATIENCE)
    assert first.versions == [0, 1]
    assert until(lambda: second.asked[-1] == "rejoin", PATIENCE), "it is told to register anew when it comes back"


def test_whoever_has_just_registered_need_not_be_on_the_list_yet(world: Begin) -> None:
    w = world()
    generator = w.generator("a", listed=False)
    w.publish(0)
    assert until(lambda: generator.versions == [0], PATIENCE)


def test_whoever_never_comes_on_the_list_gets_nothing_after_the_timeout(world: Begin) -> None:
    w = world(0.0)
    stranger, known = w.generator("stranger", listed=False), w.generator("known")
    w.publish(0)
    assert until(lambda: known.versions == [0], PATIENCE)
    assert w.publisher.wait(0, PATIENCE)
    assert stranger.versions == []


def test_whoever_fails_in_an_update_is_evicted_and_served_after_it_has_registered_anew(world: Begin) -> None:
    w = world()
    first, second = w.generator("a"), w.generator("b")
    second.fails.add("finish")
    w.publish(0)
    assert until(lambda: "rejoin" in second.asked, PATIENCE)
    assert until(lambda: first.versions[-1:] == [0], PATIENCE)
    second.fails.clear()
    assert until(lambda: second.versions == [0], PATIENCE)
    assert second.registrations >= 2


def test_only_the_newest_version_is_sent(world: Begin) -> None:
    w = world()
    for version in range(5):
        w.publish(version)
    generator = w.generator("a")
    assert w.publisher.wait(4, PATIENCE)
    assert generator.versions == [4]


@pytest.mark.parametrize(
    "frames",
    [
        [b"noise"],
        encode(Message("register", 7, {"name": "x"})),
        encode(Message("register", 7, {"name": "x", "workers": 0})),
        encode(Message("beat", 7, {"name": "x"})),
        encode(Message("answer", 7, {"name": "x", "pause_seconds": "long"})),
    ],
)
def test_a_malformed_message_is_refused_and_ends_nothing(world: Begin, frames: list[bytes]) -> None:
    w = world()
    before = metrics.WEIGHT_MALFORMED._value.get()
    rude = DealerSocket(w.publisher.endpoint, MAX_BYTES)
    rude.send(frames)
    assert rude.poll(PATIENCE)
    assert decode(rude.receive(), MAX_BYTES).kind == "error"
    rude.close()
    assert metrics.WEIGHT_MALFORMED._value.get() == before + 1
    generator = w.generator("a")
    w.publish(0)
    assert until(lambda: generator.versions == [0], PATIENCE)
