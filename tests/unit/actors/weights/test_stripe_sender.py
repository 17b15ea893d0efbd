"""What a rank that sends a stripe does with what the publisher says. Nothing is broadcast."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch

from actors.config.network import NetworkConfig
from actors.config.roles import WeightsConfig
from actors.deadline import until
from actors.errors import RunError
from actors.transport.address import resolve
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import RouterSocket, open_router
from actors.weights import stripe_sender as module
from actors.weights.buckets import Parameter
from actors.weights.messages import MAX_BYTES
from actors.weights.session import Tensors
from actors.weights.stripe_sender import StripeSender

PATIENCE = 20.0
NODE = resolve(NetworkConfig(), in_cluster=False)
HELD = {"superseded": False}
DESCRIBED = {"names": ["w"], "dtype_names": ["float32"], "shapes": [[2]]}


class FakeOutgoing:
    """Meets nobody, and sends nothing; a broadcast ends once `freed` is set. The group is itself."""

    freed = threading.Event()
    sent: ClassVar[list[float]] = []
    aborted = 0

    def __init__(self, world_size: int, **_: Any) -> None:
        self.meets_at, self.before, self._size = f"[::1]:{world_size}", [], world_size

    def join(self) -> "FakeOutgoing":
        if self._size == 99:
            raise RuntimeError("a rank did not come")
        return self

    def parameters(self, tensors: Tensors) -> list[Parameter]:
        return [Parameter(name, torch.float32, tuple(tensor.shape)) for name, tensor in tensors]

    def send(self, group: "FakeOutgoing", tensors: Tensors, parameters: list[Parameter]) -> int:  # noqa: ARG002
        assert self.freed.wait(PATIENCE)
        type(self).sent = [*self.sent, float(tensors[0][1][0])]
        return 8

    def abort(self) -> None:
        type(self).aborted += 1


class FirstRank:
    """The publisher's side of the wire, in the hands of the test, and the sender."""

    def __init__(self, deadline_seconds: float) -> None:
        self._router: RouterSocket = open_router(NODE, 0, MAX_BYTES)
        config = WeightsConfig(deadline_seconds=deadline_seconds)
        self.sender = StripeSender(
            self._router.endpoint, "learner-rank-1", config, NODE, torch.float32, torch.device("cpu")
        )
        self._numbers = iter(range(1, 1000))
        registered = self.heard()
        assert (registered.kind, registered.body) == ("register_sender", {"name": "learner-rank-1"})

    def heard(self) -> Message:
        while True:
            assert self._router.poll(PATIENCE)
            received = self._router.receive()
            assert received is not None
            self._identity, frames = received
            message = decode(frames, MAX_BYTES)
            if message.kind != "register_sender" or not self._asked:  # which is repeated all the time
                return message

    _asked = 0

    def tell(self, kind: str, **body: Any) -> None:
        self._asked = next(self._numbers)
        self._router.send(self._identity, encode(Message(kind, self._asked, {"epoch": 1} | body)))

    def start(self, version: int, epoch: int = 1) -> None:
        assert self.ask("start", epoch=epoch, version=version) == HELD
        assert self.ask("describe", epoch=epoch) == {"stripe": DESCRIBED}

    def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        self.tell(kind, **body)
        answer = self.heard()
        assert (answer.kind, answer.id) == ("answer", self._asked)
        return {field: value for field, value in answer.body.items() if field != "name"}

    def offer(self, version: int) -> None:
        self.sender.publish(version, [("w", torch.full((2,), float(version)))])

    def close(self) -> None:
        self.sender.close()
        self._router.close()


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FirstRank]]:
    monkeypatch.setattr(module, "Outgoing", FakeOutgoing)
    FakeOutgoing.sent, FakeOutgoing.aborted = [], 0
    FakeOutgoing.freed.set()
    made: list[FirstRank] = []

    def begin(deadline_seconds: float = 300.0) -> FirstRank:
        made.append(FirstRank(deadline_seconds))
        return made[-1]

    yield begin
    FakeOutgoing.freed.set()
    for each in made:
        each.close()


Begin = Callable[..., FirstRank]


def test_an_update_is_sent_call_by_call(first: Begin) -> None:
    w = first()
    assert w.ask("open", world_size=3) == {"meets_at": "[::1]:3"}
    for version in range(2):
        w.offer(version)
        w.start(version)
        assert w.ask("update", delta=False) == {}
        assert w.ask("finish") == {"sent_bytes": 8}
    assert FakeOutgoing.sent == [0.0, 1.0]


def test_a_version_that_was_started_is_sent_whatever_is_offered_meanwhile(first: Begin) -> None:
    w = first()
    w.ask("open", world_size=3)
    w.offer(4)
    assert w.ask("start", version=4) == HELD
    w.offer(5)
    w.ask("describe")
    w.ask("update", delta=False)
    w.ask("finish")
    assert w.ask("start", version=4) == {"superseded": True}
    w.start(5)
    w.ask("update", delta=False)
    w.ask("finish")
    assert FakeOutgoing.sent == [4.0, 5.0]


def test_a_version_is_waited_for_until_the_learner_offers_it(first: Begin) -> None:
    w = first()
    w.ask("open", world_size=3)
    w.offer(1)
    w.tell("start", version=2)
    assert w._router.poll(0.2) is False
    w.offer(2)
    assert w.heard().body["superseded"] is False


def test_what_breaks_is_answered_and_the_next_epoch_begins_anew(first: Begin) -> None:
    w = first()
    w.offer(0)
    w.ask("open", world_size=99)
    assert w.ask("start", version=0) == HELD
    assert w.ask("describe") == {"error": "RuntimeError: a rank did not come"}
    assert "but none is open here" in w.ask("update", delta=False)["error"]
    assert w.ask("open", epoch=2, world_size=3) == {"meets_at": "[::1]:3"}
    w.start(0, epoch=2)
    assert "has not carried" in w.ask("update", epoch=2, delta=True)["error"]


def test_a_broadcast_that_is_given_up_holds_up_nothing_and_must_end_all_the_same(first: Begin) -> None:
    w = first(1.0)
    FakeOutgoing.freed.clear()
    w.offer(0)
    w.ask("open", world_size=3)
    w.start(0)
    w.ask("update", delta=False)
    w.tell("abort")
    assert until(lambda: FakeOutgoing.aborted == 1, PATIENCE)
    assert w.ask("open", epoch=2, world_size=4) == {"meets_at": "[::1]:4"}

    def refused() -> bool:
        try:
            w.offer(1)
        except RunError as error:
            return "to the generators does not end" in str(error)
        return False

    assert until(refused, PATIENCE)


def test_a_publisher_that_says_nothing_in_an_update_is_given_up(first: Begin) -> None:
    w = first(0.5)
    w.offer(0)
    w.ask("open", world_size=3)
    w.start(0)
    assert until(lambda: FakeOutgoing.aborted == 1, PATIENCE)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_died_ends_the_learner_with_the_log(first: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    w = first()

    async def broken(*_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(w.sender._subscription, "_handle", broken)
    w.tell("abort")

    def refused() -> bool:
        try:
            w.offer(1)
        except RunError as error:
            return "logs/learner-rank-1.log" in str(error)
        return False

    assert until(refused, PATIENCE)
