"""Real sockets: what a client of the replay can rely on."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from actors.deadline import until
from actors.errors import PeerTimeoutError, ProtocolError
from actors.replay.buffer import Replay
from actors.replay.ledger import ReplayLimits
from actors.replay.service import ReplayService
from actors.transport.client import Client
from tests.unit.actors.replay.test_buffer import Sums, payload

pytestmark = pytest.mark.e2e


def service(port: int = 0) -> ReplayService:
    started = ReplayService(
        Replay(ReplayLimits(max_staleness=0, groups_per_batch=1), 2, Sums()), "127.0.0.1", port, 2**20, 20.0
    )
    started.start()
    return started


@pytest.fixture
def replay() -> Iterator[ReplayService]:
    started = service()
    yield started
    started.stop()


def client(replay: ReplayService, role: str) -> Client:
    return Client(replay.address, f"{role}-1", role)


def hand_in(generator: Client, task: dict[str, Any]) -> None:
    body = {"purpose": "train", "group_id": task["group_id"], "prompt": "", "texts": ["a", "b"]}
    assert generator.request("group_arrived", body, payload().arrays()).body["accepted"]


def test_a_long_poll_is_answered_when_there_is_something(replay: ReplayService) -> None:
    generator, verifier = client(replay, "generator"), client(replay, "verifier")
    (task,) = generator.request("lease", {"version": 0, "capacity": 4}).body["tasks"]
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(verifier.request("lease_verification", {"capacity": 1}, wait_seconds=30))
    )
    waiting.start()
    hand_in(generator, task)
    waiting.join(10)
    assert answers[0].body["groups"][0]["group_id"] == task["group_id"]


def test_a_long_poll_without_news_ends_in_time(replay: ReplayService) -> None:
    start = time.monotonic()
    reply = client(replay, "verifier").request("lease_verification", {"capacity": 1}, wait_seconds=0.3)
    assert "groups" not in reply.body
    assert time.monotonic() - start < 5


def test_a_refusal_reaches_the_caller_and_the_replay_goes_on(replay: ReplayService) -> None:
    generator = client(replay, "generator")
    with pytest.raises(ProtocolError, match="capacity"):
        generator.request("lease", {"version": 0, "capacity": 0})
    assert generator.request("lease", {"version": 0, "capacity": 1}).body["tasks"]


def test_noise_on_the_socket_does_no_harm(replay: ReplayService) -> None:
    context = zmq.Context()
    noise = context.socket(zmq.DEALER)
    noise.setsockopt(zmq.LINGER, 0)
    noise.connect(replay.address)
    for frames in ([b""], [b"\xc1" * 50], [b"a", b"b", b"c"], [b"\x80"]):
        noise.send_multipart(frames)
        assert noise.poll(5000), "noise is answered with an error"
        noise.recv_multipart()
    noise.close()
    context.term()
    assert client(replay, "generator").request("lease", {"version": 0, "capacity": 1}).body["tasks"]


def test_a_replay_that_is_gone_is_named() -> None:
    gone = service()
    address = gone.address
    gone.stop()
    with pytest.raises(PeerTimeoutError, match=address):
        Client(address, "learner", "learner").request("status", deadline_seconds=0.2)


def test_a_client_outlives_a_restart_of_the_replay() -> None:
    first = service()
    port = int(first.address.rpartition(":")[2])
    generator = Client(first.address, "generator-1", "generator")
    generator.request("status")
    first.stop()
    with pytest.raises(PeerTimeoutError):
        generator.request("status", deadline_seconds=0.2)
    second = service(port)

    def answered() -> bool:
        try:
            return "groups" in generator.request("status", deadline_seconds=1).body
        except PeerTimeoutError:
            return False

    assert until(answered, 10)
    second.stop()
