"""Who gets weights, when generators come, fail, fall off the list of members and come back. Nothing is broadcast."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch

from actors.config.network import NetworkConfig
from actors.config.roles import WeightsConfig
from actors.deadline import until
from actors.errors import RunError
from actors.events import WeightSync
from actors.observability import metrics
from actors.transport.address import resolve
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import DealerSocket
from actors.weights.group import GroupInfo
from actors.weights.messages import MAX_BYTES
from actors.weights.publisher import Publisher
from actors.weights.session import SyncClient, Tensors

#: Longer than any test takes: what ends sooner was not ended by it (s).
NEVER = 300.0
PATIENCE = 20.0


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


def test_every_worker_of_every_generator_has_a_rank_of_its_own(world: Begin) -> None:
    w = world()
    first, second = w.generator("a", workers=2), w.generator("b", workers=3)
    assert until(lambda: len(w.publisher.registered) == 2, PATIENCE)
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
    assert first.asked[-5:] == ["abort", "open", "start", "update", "finish"], "the other gave the update up"
    assert first.registrations == 1


def test_whoever_has_just_registered_need_not_be_on_the_list_yet(world: Begin) -> None:
    w = world()
    generator = w.generator("a", listed=False)
    w.publish(0)
    assert until(lambda: generator.versions == [0], PATIENCE)


def test_whoever_fell_off_the_list_and_registers_anew_holds_up_nobody_before_it_is_back(world: Begin) -> None:
    """Its word to the learner comes through, and its heartbeats do not: it is no newcomer, who gets time for that."""
    w = world()
    first, second = w.generator("a"), w.generator("b")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    w.alive.discard("b")
    again = w.generator("b", listed=False)
    assert until(lambda: w.publisher._participants.registered["b"].version is None, PATIENCE)
    w.publish(1)
    assert w.publisher.wait(1, PATIENCE)
    assert first.versions == [0, 1]
    assert again.asked == []
    w.alive.add("b")
    assert until(lambda: again.versions == [1], PATIENCE)


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


def test_a_broadcast_that_does_not_end_holds_up_only_whoever_fell_off_the_list(world: Begin) -> None:
    """A rank that has stopped in the middle of one blocks the sender, which nothing can interrupt."""
    w = world()
    first, second = w.generator("a"), w.generator("b")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    FakeTransport.stuck.set()
    w.publish(1)
    assert until(lambda: first.asked[-1] == second.asked[-1] == "update", PATIENCE)
    w.alive.discard("b")
    assert w.publisher.wait(1, PATIENCE)
    assert first.versions == [0, 1]
    FakeTransport.freed.set()
    w.alive.add("b")
    assert until(lambda: second.versions == [0, 1], PATIENCE)
    assert first.versions == [0, 1], "nothing more came of the update that was left behind"


def test_a_broadcast_that_does_not_end_after_all_ends_the_learner_with_the_names(world: Begin) -> None:
    w = world(deadline_seconds=1.0)
    FakeTransport.stuck.set()
    first, second = w.generator("a"), w.generator("b")
    assert until(lambda: len(w.publisher.registered) == 2, PATIENCE)
    w.publish(0)
    assert until(lambda: first.asked[-1:] == second.asked[-1:] == ["update"], PATIENCE)
    w.alive.discard("b")

    def refused() -> bool:
        try:
            w.publish(1)
        except RunError as error:
            return "to a, b does not end" in str(error)
        return False

    assert until(refused, PATIENCE)


def test_a_generator_that_fails_every_time_holds_up_nobody(world: Begin) -> None:
    w = world()
    first, second = w.generator("a"), w.generator("b")
    second.fails.add("start")
    assert until(lambda: len(w.publisher.registered) == 2, PATIENCE)
    for version in range(6):
        w.publish(version)
        assert until(lambda version=version: first.versions[-1:] == [version], PATIENCE)  # type: ignore[misc]
    assert first.opened[-1]["world_size"] == 2, "they are in one epoch no more"
    assert first.asked.count("abort") <= 2
    second.fails.clear()
    assert until(lambda: second.versions[-1:] == [5], PATIENCE)


def test_a_registration_that_is_repeated_changes_nothing(world: Begin) -> None:
    w = world()
    generator, other = w.generator("a"), w.generator("b")
    assert until(lambda: len(w.publisher.registered) == 2, PATIENCE)
    w.publish(0)
    assert until(lambda: (generator.versions, other.versions) == ([0], [0]), PATIENCE)
    generator.register()
    w.publish(1)
    assert until(lambda: (generator.versions, other.versions) == ([0, 1], [0, 1]), PATIENCE)
    assert generator.asked.count("open") == 1, "the epoch went on"


def test_who_did_not_hear_of_its_eviction_is_back_once_it_says_that_it_is_there(world: Begin) -> None:
    w = world()
    generator = w.generator("a")
    generator.deaf, generator.fails = True, {"finish"}
    w.publish(0)
    assert until(lambda: "rejoin" in generator.asked, PATIENCE)
    generator.fails = set()
    generator.register()
    assert until(lambda: generator.versions == [0], PATIENCE)


def test_the_farewell_of_an_earlier_connection_evicts_nobody(world: Begin) -> None:
    """A generator that follows the learner anew may have registered before the end of the one before is heard of."""
    w = world()
    earlier = w.generator("a")
    w.publish(0)
    assert until(lambda: earlier.versions == [0], PATIENCE)
    later = w.generator("a")
    assert until(lambda: later.versions == [0], PATIENCE)
    earlier.send("deregister", 0, {})
    w.publish(1)
    assert until(lambda: later.versions == [0, 1], PATIENCE)


def test_only_the_newest_version_is_sent(world: Begin) -> None:
    w = world()
    for version in range(5):
        w.publish(version)
    generator = w.generator("a")
    assert w.publisher.wait(4, PATIENCE)
    assert generator.versions == [4]


def test_nobody_gets_weights_before_every_sender_is_there(world: Begin) -> None:
    w = world(senders=("rank-1", "rank-2"))
    generator, first = w.generator("a"), w.sender("rank-1")
    w.publish(0)
    assert until(lambda: w.publisher.registered == {"a", "rank-1"}, PATIENCE)
    assert not w.publisher.wait(0, 0.2)
    assert generator.asked == first.asked == []
    second = w.sender("rank-2")
    assert w.publisher.wait(0, PATIENCE)
    assert generator.opened[-1]["meet_at"] == ["[::1]:2"] * 2
    assert first.asked == second.asked == ["open", "start", "describe", "update", "finish"]
    assert until(lambda: bool(w.syncs), PATIENCE)
    assert w.syncs[-1].bytes == 4 + 2 * 8 and w.syncs[-1].members == 1


def test_a_sender_that_falls_off_the_list_breaks_the_update_and_is_waited_for(world: Begin) -> None:
    w = world(senders=("rank-1",))
    generator, sender = w.generator("a"), w.sender("rank-1")
    w.publish(0)
    assert w.publisher.wait(0, PATIENCE)
    sender.suspended = True
    w.publish(1)
    assert until(lambda: len(sender.asked) > 5, PATIENCE)
    w.alive.discard("rank-1")
    assert until(lambda: sender.asked[-1] == "rejoin", PATIENCE)
    assert until(lambda: generator.asked[-1] == "abort", PATIENCE)
    assert generator.versions == [0]
    assert not w.publisher.wait(1, 0.2)
    sender.suspended = False
    sender.register()
    w.alive.add("rank-1")
    assert w.publisher.wait(1, PATIENCE)
    assert generator.versions == [0, 1] and generator.registrations == 1


def test_a_broadcast_that_breaks_at_a_sender_has_all_generators_register_anew(world: Begin) -> None:
    """Whose fault it was is not known; one that has died does not come back."""
    w = world(senders=("rank-1",))
    first, second, sender = w.generator("a"), w.generator("b"), w.sender("rank-1")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    second.deaf = True
    sender.fails.add("finish")
    w.publish(1)
    assert until(lambda: first.asked[-1] == second.asked[-1] == "rejoin" or first.registrations > 1, PATIENCE)
    sender.fails.clear()
    assert until(lambda: first.versions == [0, 1], PATIENCE)
    assert second.versions == [0] and sender.registrations == 1


def test_a_version_that_a_sender_holds_no_longer_is_passed_over(world: Begin) -> None:
    w = world(senders=("rank-1",))
    generator, sender = w.generator("a"), w.sender("rank-1")
    sender.newest = 1
    w.publish(0)
    assert until(lambda: sender.asked.count("start") > 1, PATIENCE)
    assert generator.asked == ["open"]
    w.publish(1)
    assert w.publisher.wait(1, PATIENCE)
    assert generator.versions == [1] and "abort" not in generator.asked


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
