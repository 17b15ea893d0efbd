"""The only place that opens ZeroMQ sockets: their keys, limits and deadlines are set here, and nowhere else.

A server is a ROUTER, a client a DEALER. Each has a context of its own, so that closing one never waits for another.

One peer cannot stop the others: what it sends at a time is bounded in size (`max_bytes`) and, beyond `QUEUE_MESSAGES`
that nobody has read yet, waits in its own TCP connection; a ROUTER takes from all peers in turn. Who has the keys, and
how many may connect: `actors.transport.admission`.
"""

import time
from collections.abc import Sequence
from typing import Any, TypeVar

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from actors.errors import PeerTimeoutError, RunError
from actors.transport.address import Node, bind_port, endpoint
from actors.transport.admission import DOMAIN, Admission, Limits
from actors.transport.codec import ZERO_COPY_BYTES, Frame
from actors.transport.keys import Keys, role_of

#: Longest wait for room in a client's queue, which is full only where its server has not read for long (s).
SEND_SECONDS = 10.0
#: How long a message that was sent just before its socket is closed may still travel (s).
LINGER_SECONDS = 0.5
#: Whoever has not come through the handshake by then is disconnected (s).
HANDSHAKE_SECONDS = 5.0
#: Messages of one client that a server holds unread, and answers that it holds for one: clients ask one at a time.
QUEUE_MESSAGES = 64
#: A connection is tried anew where it is not there by then (s); the system by itself waits for minutes.
CONNECT_SECONDS = 5
#: Longest time between two attempts to connect (s): clients of a server that is gone must not crowd its successor.
RECONNECT_SECONDS = 2
#: A connection is given up where its peer's machine has confirmed nothing for so long (s). A process that is suspended
#: is not meant, for which its system confirms.
SILENT_SECONDS = 20

#: This process's, once it has any; all its sockets use them.
_keys: Keys | None = None

#: Contexts that nobody has closed. One that was collected as garbage would wait for its sockets to be closed, which are
#: garbage too and may never be: for ever, and in whatever thread happens to collect.
_contexts: set["zmq.Context[Any]"] = set()
C = TypeVar("C", bound="zmq.Context[Any]")


def _in_use(context: C) -> C:
    _contexts.add(context)
    return context


def _terminate(context: "zmq.Context[Any]") -> None:
    context.term()
    _contexts.discard(context)


def use_keys(keys: Keys | None) -> None:
    """Let every socket that this process opens from now on be encrypted and authenticated; None: plain."""
    global _keys
    _keys = keys


class RouterSocket:
    """A server's socket. One thread at a time may use it.

    Attributes:
        endpoint: its address as others reach it.
        sender_role: which role the key is for of whoever has sent the message that was received last; None: any.
    """

    def __init__(
        self, node: Node, port: int, max_bytes: int, key: str, limits: Limits | None = None, seconds: float = 0.0
    ) -> None:
        self._context = _in_use(zmq.Context())
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        _limit(self._socket, max_bytes, linger_seconds=0)
        for queue in (zmq.RCVHWM, zmq.SNDHWM):
            self._socket.setsockopt(queue, QUEUE_MESSAGES)
        # A client that comes back under the identity of an earlier connection takes its place.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)

        def bind(number: int) -> int:
            try:
                self._socket.bind(endpoint(node.bind, number))
            except zmq.ZMQError as error:
                raise OSError(error.errno, error.strerror) from error
            return int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

        self._admission: Admission | None = None
        self.sender_role: str | None = None
        try:
            if _keys is not None:
                self._admission = self._guarded(_keys, limits or Limits.of_this_process())
            bound = bind_port(node, bind, port, key, seconds)
            if self._admission is not None:
                self._admission.port = bound
            self.endpoint = endpoint(node.advertise, bound)
        except Exception:
            self.close()
            raise

    def poll(self, seconds: float) -> bool:
        """Wait for a message; whether there is one."""
        return bool(self._socket.poll(int(seconds * 1000)))

    def receive(self) -> tuple[bytes, list[Frame]] | None:
        """The sender's identity and the frames of the next message; None where none is waiting."""
        try:
            identity, *frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        if self._admission is not None:
            self.sender_role = role_of(str(identity["User-Id"]))  # the name by which it was admitted
        return identity.bytes, list(map(_received, frames))

    def send(self, identity: bytes, frames: Sequence[Frame]) -> bool:
        """Send without waiting; False where the peer does not read. What goes to a peer that is gone is lost."""
        try:
            self._socket.send_multipart([identity, *frames], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def _guarded(self, keys: Keys, limits: Limits) -> Admission:
        if keys.server is None:
            raise RunError("network.curve: this process serves others, and was given no server.secret")
        self._socket.curve_server = True
        self._socket.curve_secretkey = keys.server.secret
        self._socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        self._socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        zap: zmq.Socket[bytes] = self._context.socket(zmq.REP)
        zap.setsockopt(zmq.LINGER, 0)
        return Admission(self._socket, zap, keys.server.authorized, limits)

    def close(self) -> None:
        if self._admission is not None:
            self._admission.close()
        self._socket.close()
        _terminate(self._context)


def open_router(
    node: Node, port: int, max_bytes: int, key: str = "", limits: Limits | None = None, seconds: float = 0.0
) -> RouterSocket:
    """Listen for clients.

    Args:
        node: where to listen, and what to advertise.
        port: the only port that will do; 0 for one of `network.ports.range`, or any.
        max_bytes: size of the largest message; a peer that sends a larger one is disconnected.
        key: option that fixes the port, for the error.
        limits: how many may connect, where the process has keys; by default what it can afford.
        seconds: how long a fixed port may still be taken, by a process that is being ended (s).

    Raises:
        RunError: where no port is free, `network.bind` is no address of this machine, or the keys are not a server's.
    """
    return RouterSocket(node, port, max_bytes, key, limits, seconds)


class _Connection:
    """What a client's socket tells of its connection, from before it connects.

    Attributes:
        greeted: whether there is a connection, or was.
        lost: whether the server was there, and the connection broke: it has ended, and what it was asked may be lost.
    """

    def __init__(self, socket: "zmq.Socket[Any]") -> None:
        self._socket = socket
        self.events: Any = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.lost = self.greeted = False

    def take(self, frames: list[bytes]) -> None:
        """Learn from a message of `events`."""
        happened = parse_monitor_message(frames)["event"]
        self.lost |= self.greeted and happened == zmq.EVENT_DISCONNECTED
        self.greeted |= happened == zmq.EVENT_HANDSHAKE_SUCCEEDED

    def close(self, linger_seconds: float = 0.0) -> None:
        """Close the socket, and what watches it."""
        if not self._socket.closed:
            self._socket.disable_monitor()
            self.events.close()
        self._socket.close(int(linger_seconds * 1000))


class DealerSocket:
    """A client's socket, connected to the server at `endpoint`. One thread at a time may use it."""

    def __init__(self, endpoint: str, max_bytes: int) -> None:
        self._endpoint, self._max_bytes = endpoint, max_bytes
        self._context = _in_use(zmq.Context())
        self._connect()

    def _connect(self) -> None:
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        _limit(self._socket, self._max_bytes, linger_seconds=0)
        _identify(self._socket)
        self._connection = _Connection(self._socket)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._connection.events, zmq.POLLIN)
        self._socket.connect(self._endpoint)

    @property
    def lost(self) -> bool:
        """Whether the server was there, and the connection broke: what it was asked may be lost."""
        return self._connection.lost

    @property
    def greeted(self) -> bool:
        """Whether there is a connection, or was."""
        return self._connection.greeted

    def send(self, frames: Sequence[Frame]) -> None:
        """Queue a message.

        Raises:
            PeerTimeoutError: where the queue stays full.
        """
        while self._connection.events.poll(
            0
        ):  # of before: what is sent now is lost by nothing that has happened already
            self._observe()
        if self.lost:
            self.reconnect()
        try:
            self._socket.send_multipart(frames, copy=False)
        except zmq.Again as error:
            raise PeerTimeoutError(f"{self._endpoint} has read nothing for {SEND_SECONDS:g} s") from error

    def poll(self, seconds: float) -> bool:
        """Wait for a message; whether there is one. The wait ends, too, where the connection is lost."""
        end = time.monotonic() + seconds
        while True:
            ready = dict(self._poller.poll(int(max(0.0, end - time.monotonic()) * 1000)))
            if self._connection.events in ready:
                self._observe()
            if self._socket in ready:
                return True
            if self.lost or not ready:
                return False

    def _observe(self) -> None:
        self._connection.take(self._connection.events.recv_multipart())

    def receive(self) -> list[Frame]:
        """The frames of the next message; call it after `poll`."""
        return list(map(_received, self._socket.recv_multipart(copy=False)))

    def reconnect(self) -> None:
        """Forget whatever was not sent or not received yet."""
        self._connection.close()
        self._connect()

    def close(self) -> None:
        self._connection.close()
        _terminate(self._context)


class AsyncDealerSocket:
    """A client's socket in an event loop. What was sent just before `close` still leaves."""

    def __init__(self, endpoint: str, max_bytes: int) -> None:
        self._endpoint = endpoint
        self._context = _in_use(zmq.asyncio.Context())
        self._socket = self._context.socket(zmq.DEALER)
        _limit(self._socket, max_bytes, LINGER_SECONDS)
        _identify(self._socket)
        self._connection = _Connection(self._socket)
        self._socket.connect(endpoint)

    async def send(self, frames: Sequence[Frame]) -> None:
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

    async def lost(self) -> None:
        """Wait until a connection that was there breaks: the server has ended, and what it was asked may be lost."""
        while not self._connection.lost:
            self._connection.take(await self._connection.events.recv_multipart())

    def close(self, linger_seconds: float = LINGER_SECONDS) -> None:
        self._connection.close(linger_seconds)
        _terminate(self._context)


def _received(frame: zmq.Frame) -> Frame:
    """A large frame stays where it is; a small one would hold the memory of others that came with it."""
    return frame.buffer.toreadonly() if len(frame) >= ZERO_COPY_BYTES else frame.bytes


def _limit(socket: "zmq.Socket[Any]", max_bytes: int, linger_seconds: float) -> None:
    """What holds for every socket of a run."""
    socket.setsockopt(zmq.LINGER, int(linger_seconds * 1000))
    socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
    socket.setsockopt(zmq.SNDTIMEO, int(SEND_SECONDS * 1000))
    socket.setsockopt(zmq.IPV6, 1)  # both families, not IPv6 alone
    socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_SECONDS * 1000))
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_SECONDS * 1000)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_SECONDS * 1000)
    # TCP's own means: ZeroMQ's heartbeats would take a peer for dead whose answer waits behind a large message.
    socket.setsockopt(zmq.TCP_MAXRT, SILENT_SECONDS * 1000)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, SILENT_SECONDS // 2)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, SILENT_SECONDS // 4)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 2)


def _identify(client: "zmq.Socket[Any]") -> None:
    """Let a client show its key, and have that of its server proved to it."""
    if _keys is not None:
        client.curve_serverkey = _keys.server_public
        client.curve_publickey = _keys.client_public
        client.curve_secretkey = _keys.client_secret
