"""Length-prefixed JSON over a stream socket, with a deadline and a size limit."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from typing import Any

MAX_FRAME_BYTES = 64 * 1024 * 1024

_LENGTH = struct.Struct(">I")


class FrameError(Exception):
    """The peer closed the connection in mid-frame, or sent what is not a frame."""


def encode(message: dict[str, Any]) -> bytes:
    """One frame.

    Raises:
        TypeError, ValueError: the message is not JSON (NaN included), or longer than `MAX_FRAME_BYTES`.
    """
    body = json.dumps(message, allow_nan=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"message of {len(body)} bytes exceeds {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def receive(connection: socket.socket, deadline: float | None) -> dict[str, Any] | None:
    """The next message, or None if the peer closed the connection between frames.

    Args:
        connection: a connected stream socket.
        deadline: `time.monotonic()` value, or None to wait for ever (a worker waiting for work).

    Raises:
        TimeoutError: the deadline passed.
        FrameError: the peer does not speak this protocol or died.
    """
    header = _exactly(connection, _LENGTH.size, deadline)
    if header is None:
        return None
    (size,) = _LENGTH.unpack(header)
    if size > MAX_FRAME_BYTES:
        raise FrameError(f"frame of {size} bytes exceeds {MAX_FRAME_BYTES}")
    body = _exactly(connection, size, deadline)
    if body is None:
        raise FrameError("connection closed in mid-frame")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"frame is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise FrameError("frame is not an object")
    return message


def read(fd: int) -> dict[str, Any] | None:
    """The next message on a descriptor, waiting for ever: for workers, whose filter has no socket calls.

    None if the peer closed the connection.

    Raises:
        FrameError: the peer died in mid-frame.
    """
    header = _read_exactly(fd, _LENGTH.size)
    if header is None:
        return None
    body = _read_exactly(fd, _LENGTH.unpack(header)[0])
    if body is None:
        raise FrameError("connection closed in mid-frame")
    message: dict[str, Any] = json.loads(body)
    return message


def _read_exactly(fd: int, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        chunk = os.read(fd, min(size - len(received), 1 << 20))
        if not chunk:
            return None
        received += chunk
    return bytes(received)


def write(fd: int, frame: bytes) -> None:
    """Write a whole frame to a descriptor; the counterpart of `read`."""
    view = memoryview(frame)
    while view:
        view = view[os.write(fd, view) :]


def send(connection: socket.socket, frame: bytes, deadline: float | None) -> None:
    """Send a whole frame.

    Raises:
        TimeoutError: the deadline passed.
        OSError: the peer is gone.
    """
    connection.settimeout(_remaining(deadline))
    connection.sendall(frame)


def _exactly(connection: socket.socket, size: int, deadline: float | None) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        connection.settimeout(_remaining(deadline))
        chunk = connection.recv(min(size - len(received), 1 << 20))
        if not chunk:
            if received:
                raise FrameError("connection closed in mid-frame")
            return None
        received += chunk
    return bytes(received)


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("deadline passed")
    return remaining
