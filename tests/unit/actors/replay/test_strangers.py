"""Whatever a peer sends, the replay answers or refuses it, and goes on serving the others. See also `tests.fuzz`."""

import resource
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.config.network import NetworkConfig
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from actors.replay.service import ReplayService
from actors.transport.address import resolve
from actors.transport.client import Client
from actors.transport.codec import Message, encode
from tests.fuzz.wire import Sums, Target, frames_of

slow = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Choices:
    """Hypothesis in the place of `atheris.FuzzedDataProvider`."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def ConsumeIntInRange(self, low: int, high: int) -> int:  # noqa: N802 - atheris's names
        return self._data.draw(st.integers(low, high))

    def ConsumeInt(self, size: int) -> int:  # noqa: N802
        return self._data.draw(st.integers(-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1))

    def ConsumeBytes(self, count: int) -> bytes:  # noqa: N802
        return self._data.draw(st.binary(max_size=count))

    def ConsumeUnicode(self, count: int) -> str:  # noqa: N802
        return self._data.draw(st.text(st.characters(), max_size=count))

    def ConsumeRegularFloat(self) -> float:  # noqa: N802
        return self._data.draw(st.floats(allow_nan=False, allow_infinity=False))

    def PickValueInList(self, values: list[Any]) -> Any:  # noqa: N802
        return self._data.draw(st.sampled_from(values))


@given(data=st.data())
@slow
def test_a_message_is_answered_or_refused_and_no_group_is_lost_by_it(data: st.DataObject) -> None:
    target, choices = Target(), Choices(data)
    for _ in range(choices.ConsumeIntInRange(1, 6)):
        target.take(frames_of(choices))


@pytest.fixture(scope="module")
def replay() -> Iterator[ReplayService]:
    buffer = Buffer(ReplayLimits(max_staleness=0, groups_per_batch=1), 2, Sums())
    started = ReplayService(buffer, Board(20.0), resolve(NetworkConfig(), in_cluster=False), 2**20)
    started.start()
    yield started
    started.stop()


@given(data=st.data())
@settings(slow, max_examples=40)
def test_a_live_replay_serves_others_whatever_one_peer_sends(replay: ReplayService, data: st.DataObject) -> None:
    choices = Choices(data)
    with zmq.Context() as context, closing(context.socket(zmq.DEALER)) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(replay.address)
        for _ in range(choices.ConsumeIntInRange(1, 4)):
            if frames := frames_of(choices):
                stranger.send_multipart(frames)
        stranger.poll(20)
        with closing(Client(replay.address, "controller", "controller")) as client:
            assert "groups" in client.request("status").body


@pytest.mark.parametrize("reads", [True, False])
def test_a_peer_that_sends_without_an_end_does_not_keep_others_waiting(replay: ReplayService, reads: bool) -> None:
    """Whether it reads its answers or not; and what it sends piles up with it, not with the replay."""
    stop, sent = threading.Event(), threading.Semaphore(0)
    frames = encode(Message("notice", 1, {"worker": "rude", "role": "generator", "event": {"kind": "x" * 100_000}}))

    def flood() -> None:
        with zmq.Context() as context, closing(context.socket(zmq.DEALER)) as rude:
            rude.setsockopt(zmq.LINGER, 0)
            rude.setsockopt(zmq.SNDHWM, 1)
            rude.connect(replay.address)
            while not stop.is_set():
                if rude.poll(10, zmq.POLLOUT):
                    rude.send_multipart(frames)
                    sent.release()
                while reads and rude.poll(0):
                    rude.recv_multipart()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    threads = [threading.Thread(target=flood) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with closing(Client(replay.address, "controller", "controller")) as client:
            for _ in range(5):  # each is answered within a client's patience, amid the flood
                assert sent.acquire(timeout=60)
                assert client.request("status").kind == "reply"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "KiB"
