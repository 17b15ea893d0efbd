"""The only place that opens ZeroMQ sockets: their limits and deadlines are set here, and nowhere else.

A server is a ROUTER, a client a DEALER. Each has a context of its own, so that closing one never waits for another.
"""

from collections.abc import Sequence
from typing import Any

import zmq
import zmq.asyncio

from actors.errors import PeerTimeoutError
from actors.transport.address import Node, bind_port, endpoint

#: Longest wait for room in a client's queue, which is full only where its server has not read for long (s).
SEND_SECONDS = 10.0
#: How long a message that was sent just before its socket is closed may still travel (s).
LINGER_SECONDS = 0.5


class RouterSocket:
    """A server's socket; `endpoint` is its address as others reach it. One thread at a time may use it."""

    def __init__(self, node: Node, port: int, max_bytes: int, key: str) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        _limit(self._socket, max_bytes, linger_seconds=0)
        # A client that comes back under the identity of an earlier connection takes its place.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)

        def bind(number: int) -> int:
            try:
                self._socket.bind(endpoint(node.bind, number))
            except zmq.ZMQError as error:
                raise OSError(error.errno, error.strerror) from error
            return int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

        try:
            self.endpoint = endpoint(node.advertise, bind_port(node, bind, port, key))
        except Exception:
            self.close()
            raise

    def poll(self, seconds: float) -> bool:
        """Wait for a message; whether there is one."""
        return bool(self._socket.poll(int(seconds * 1000)))

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """The sender's identity and the frames of the next message; None where none is waiting."""
        try:
            identity, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        return identity, frames

    def send(self, identity: bytes, frames: Sequence[bytes]) -> bool:
        """Send without waiting; False where the peer does not read. What goes to a peer that is gone is lost."""
        try:
            self._socket.send_multipart([identity, *frames], zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        self._socket.close()
        self._context.term()


def open_router(node: Node, port: int, max_bytes: int, key: str = "") -> RouterSocket:
    """Listen for clients.

    Args:
        node: where to listen, and what to advertise.
        port: the only port that will do; 0 for one of `network.ports.range`, or any.
        max_bytes: size of the largest message; a peer that sends a larger one is disconnected.
        key: option that fixes the port, for the error.

    Raises:
        RunError: where no port is free, or `network.bind` is no address of this machine.
    """
    return RouterSocket(node, port, max_bytes, key)


class DealerSocket:
    """A client's socket, connected to the server at `endpoint`. One thread at a time may use it."""

    def __init__(self, endpoint: str, max_bytes: int) -> None:
        self._endpoint, self._max_bytes = endpoint, max_bytes
        self._context = zmq.Context()
        self._socket = self._connected()

    def _connected(self) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        _limit(socket, self._max_bytes, linger_seconds=0)
        socket.connect(self._endpoint)
        return socket

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue a message.

        Raises:
            PeerTimeoutError: where the queue stays full.
        """
        try:
            self._socket.send_multipart(frames)
        except zmq.Again as error:
            raise PeerTimeoutError(f"{self._endpoint} has read nothing for {SEND_SECONDS:g} s") from error

    def poll(self, seconds: float) -> bool:
        """Wait for a message; whether there is one."""
        return bool(self._socket.poll(int(seconds * 1000)))

    def receive(self) -> list[bytes]:
        """The frames of the next message; call it after `poll`."""
        return self._socket.recv_multipart()

    def reconnect(self) -> None:
        """Forget whatever was not sent or not received yet."""
        self._socket.close()
        self._socket = self._connected()

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class AsyncDealerSocket:
    """A client's socket in an event loop. What was sent just before `close` still leaves."""

    def __init__(self, endpoint: str, max_bytes: int) -> None:
        self._endpoint = endpoint
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        _limit(self._socket, max_bytes, LINGER_SECONDS)
        self._socket.connect(endpoint)

    async def send(self, frames: Sequence[bytes]) -> None:
        """Queue a message.

        Raises:
            PeerTimeoutError: where the queue stays full.
        """
        try:
            await self._socket.send_multipart(frames)
        except zmq.Again as error:
            raise PeerTimeoutError(f"{self._endpoint} has read nothing for {SEND_SECONDS:g} s") from error

    async def receive(self) -> list[bytes]:
        """The frames of the next message, whenever it comes."""
        return await self._socket.recv_multipart()

    def close(self, linger_seconds: float = LINGER_SECONDS) -> None:
        self._socket.close(int(linger_seconds * 1000))
        self._context.term()


def _limit(socket: "zmq.Socket[Any]", max_bytes: int, linger_seconds: float) -> None:
    """What holds for every socket of a run."""
    socket.setsockopt(zmq.LINGER, int(linger_seconds * 1000))
    socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
    socket.setsockopt(zmq.SNDTIMEO, int(SEND_SECONDS * 1000))
    socket.setsockopt(zmq.IPV6, 1)  # both families, not IPv6 alone
