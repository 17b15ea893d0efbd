"""Frames between the pool and its grader workers: whole, bounded, and never waited for without a deadline."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from sandbox.grading import frames


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    first, second = socket.socketpair()
    with first, second:
        yield first, second


def _soon() -> float:
    return time.monotonic() + 60


@pytest.mark.parametrize("message", [{}, {"a": [1, None, "é", "\ud800"]}, {"long": "x" * 3_000_000}])
def test_a_message_arrives_as_it_was_sent(
    ends: tuple[socket.socket, socket.socket], message: dict[str, object]
) -> None:
    sender = threading.Thread(target=frames.send, args=(ends[0], frames.encode(message), _soon()))
    sender.start()
    assert frames.receive(ends[1], _soon()) == message
    sender.join(60)


def test_both_ends_may_be_plain_descriptors() -> None:
    reader, writer = os.pipe()
    frames.write(writer, frames.encode({"a": 1}))
    os.close(writer)
    assert [frames.read(reader), frames.read(reader)] == [{"a": 1}, None]
    os.close(reader)


def test_a_peer_that_leaves_between_frames_is_told_from_one_that_leaves_within(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[0].sendall(frames.encode({}) + frames.encode({"a": 1})[:-1])
    ends[0].shutdown(socket.SHUT_WR)
    assert frames.receive(ends[1], _soon()) == {}
    with pytest.raises(frames.FrameError, match="mid-frame"):
        frames.receive(ends[1], _soon())
    ends[1].shutdown(socket.SHUT_WR)
    assert frames.receive(ends[0], _soon()) is None


@pytest.mark.parametrize("received", [struct.pack(">I", frames.MAX_FRAME_BYTES + 1), b"\0\0\0\x02[]", b"\0\0\0\x01x"])
def test_what_is_no_frame_is_refused(ends: tuple[socket.socket, socket.socket], received: bytes) -> None:
    ends[0].sendall(received)
    with pytest.raises(frames.FrameError):
        frames.receive(ends[1], _soon())


def test_nothing_waits_past_its_deadline(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        frames.receive(ends[0], time.monotonic() + 0.01)
    with pytest.raises(TimeoutError):
        frames.send(ends[0], bytes(50_000_000), time.monotonic() + 0.01)


def test_what_is_not_json_is_not_sent() -> None:
    for value in (float("nan"), object(), b""):
        with pytest.raises((TypeError, ValueError)):
            frames.encode({"a": value})
