"""A publisher, with generators and senders that answer its calls. Nothing is broadcast."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch

from actors.config.network import NetworkConfig
from actors.config.roles import WeightsConfig
from actors.events import WeightSync
from actors.transport.address import resolve
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import DealerSocket
from actors.weights.group import GroupInfo
from actors.weights.messages import MAX_BYTES
from actors.weights.publisher import Publisher
from actors.weights.session import SyncClient, Tensors

#: Longer than any test takes: what ends sooner was not ended by it (s).
NEVER = 300.0
PATIENCE = 60.0


class FakeTransport:
    """Makes the calls of an update, and sends nothing. While `stuck` is set, a broadcast to several does not end."""

    stuck = threading.Event()
    freed = threading.Event()

    def __init__(self, client: SyncClient, world_size: int, **_: Any) -> None:
        self._client, self._receivers = client, world_size - 1
        client.init_weight_transfer_engine(asdict(GroupInfo("gloo", "::1", 1, 1, world_size, 1, NEVER)))

    def send(self, tensors: Tensors) -> int:
        self._client.start_weight_update()
        self._client.update_weights({"names": ["w"], "dtype_names": ["float32"], "shapes": [[1]]})
        if self.stuck.is_set() and self._receivers > 1:
            self.freed.wait(NEVER)
        self._client.finish_weight_update()
        return sum(tensor.nbytes for _, tensor in tensors)

    def close(self) -> None: ...


class FakeGenerator:
    """Registers and answers every call, but those in `fails`; while it is `suspended` it does neither, and while it is
    `deaf` it does not hear that it was evicted."""

    registration = "register"

    def __init__(self, endpoint: str, name: str, workers: int = 1) -> None:
        self.name, self._workers = name, workers
        self.deaf = False
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
        self.register()
        while not self._stopping.is_set():
            if self._socket.poll(0.01):
                self._handle(decode(self._socket.receive(), MAX_BYTES))

    def register(self) -> None:
        self.registrations += 1
        self.send(self.registration, 0, {"workers": self._workers} if self.registration == "register" else {})

    def send(self, kind: str, number: int, body: Mapping[str, Any]) -> None:
        self._socket.send(encode(Message(kind, number, {"name": self.name, **body})))

    def _handle(self, message: Message) -> None:
        self.asked.append(message.kind)
        if self.suspended:
            return
        if message.kind in ("abort", "rejoin"):
            if message.kind == "rejoin" and not self.deaf:
                self.register()
            return
        if message.kind == "open":
            self.opened.append(dict(message.body))
        if message.kind == "finish" and "finish" not in self.fails and "version" in message.body:
            self.versions.append(message.body["version"])
        self.send("answer", message.id, {"error": "no memory"} if message.kind in self.fails else self.answer(message))

    def answer(self, _: Message) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        self._socket.close()


class FakeSender(FakeGenerator):
    """A rank that sends a stripe, of which it holds the version `newest` where that is set."""

    registration = "register_sender"
    newest: int | None = None

    def answer(self, message: Message) -> dict[str, Any]:
        if message.kind == "open":
            return {"meets_at": "[::1]:2"}
        if message.kind == "start" and self.newest not in (None, message.body["version"]):
            return {"superseded": True}
        if message.kind == "describe":
            return {"stripe": {"names": ["v"], "dtype_names": ["float32"], "shapes": [[2]]}}
        return {"sent_bytes": 8} if message.kind == "finish" else {}


class World:
    """A publisher, its generators, and the list of members that it believes."""

    def __init__(self, timeout_seconds: float, deadline_seconds: float, senders: Sequence[str] = ()) -> None:
        self.alive: set[str] = set()
        self.syncs: list[WeightSync] = []
        self._generators: list[FakeGenerator] = []
        self.publisher = Publisher(
            WeightsConfig(deadline_seconds=deadline_seconds),
            resolve(NetworkConfig(), in_cluster=False),
            torch.float32,
            alive=lambda: frozenset(self.alive),
            timeout_seconds=timeout_seconds,
            on_sync=self.syncs.append,
            transport=FakeTransport,
            senders=senders,
        )

    def generator(self, name: str, workers: int = 1, listed: bool = True) -> FakeGenerator:
        if listed:
            self.alive.add(name)
        self._generators.append(FakeGenerator(self.publisher.endpoint, name, workers))
        return self._generators[-1]

    def sender(self, name: str) -> FakeSender:
        self.alive.add(name)
        self._generators.append(made := FakeSender(self.publisher.endpoint, name))
        return made

    def publish(self, version: int) -> None:
        self.publisher.publish(version, [("w", torch.zeros(1))])

    def close(self) -> None:
        self.alive.clear()  # whoever is waited for is waited for no longer
        for generator in self._generators:
            generator.close()
        self.publisher.close()


@pytest.fixture
def world() -> Iterator[Callable[[float], World]]:
    FakeTransport.stuck.clear()
    FakeTransport.freed.clear()
    worlds: list[World] = []

    def begin(timeout_seconds: float = NEVER, deadline_seconds: float = NEVER, senders: Sequence[str] = ()) -> World:
        worlds.append(World(timeout_seconds, deadline_seconds, senders))
        return worlds[-1]

    yield begin
    FakeTransport.freed.set()
    for each in worlds:
        each.close()


Begin = Callable[..., World]
