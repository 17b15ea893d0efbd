"""Who may connect to a server's socket, and how many may: a thread beside the socket, which sees no message.

                 ┌─ the key is listed ──────▶ in
    connects ────┤
                 └─ anything else ──────────▶ cut, without a word

libzmq asks for every CURVE handshake over ZAP (RFC 27), with the client's key. pyzmq has an authenticator, but it
refuses by a status that libzmq passes on to the client; 300 is the one by which the client learns nothing.

libzmq has no limit on connections, each of which is a descriptor that journals and logs need too. So this thread
follows the socket's monitor, and cuts by itself what is too much: of those that have not come through the handshake the
oldest, of the others the newest, so that whoever is in stays in.
"""

import logging
import os
import resource
import socket
import struct
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from actors.observability import metrics
from actors.process import Seldom
from actors.transport.keys import Authorized

log = logging.getLogger(__name__)

#: Where libzmq asks, in the server's context.
_ZAP = "inproc://zeromq.zap.01"
#: Named to libzmq, which then lets nobody in where nobody answers.
DOMAIN = b"leeway"
#: The thread looks this often whether it is to end (s).
_TICK_SECONDS = 0.2
#: A client has sent this much once its handshake is through: greeting, HELLO and the shortest INITIATE (bytes).
_HANDSHAKE_BYTES = 64 + 200 + 257
#: Offset of `tcpi_bytes_received` in Linux's `struct tcp_info`.
_BYTES_RECEIVED = 128
_FAILED = zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_AUTH


@dataclass(frozen=True, slots=True)
class Limits:
    """Most connections of one server: `unknown` are those whose handshake is not through."""

    connections: int
    unknown: int

    @classmethod
    def of_this_process(cls) -> "Limits":
        """Half of the descriptors that the process may have; an eighth of these for handshakes."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = soft // 2 if soft != resource.RLIM_INFINITY else 2**19
        return cls(most, min(1024, most // 8))


class Admission:
    """Guards one server socket, from before it is bound until `close`, which comes before its context's end.

    Args:
        server: what is guarded.
        zap: a REP socket of the same context, for this thread alone.
        authorized: who may connect.
        limits: how many may.
    """

    def __init__(
        self, server: "zmq.Socket[Any]", zap: "zmq.Socket[bytes]", authorized: Authorized, limits: Limits
    ) -> None:
        self._authorized, self._limits = authorized, limits
        self._zap = zap
        self._zap.bind(_ZAP)
        self._monitor = server.get_monitor_socket(zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED | _FAILED)
        #: Where the server listens, once it does; nothing is cut before.
        self.port = 0
        self._connected: dict[int, None] = {}
        self._unknown: dict[int, None] = {}
        self._log = Seldom(log)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="admission", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:
            log.exception("the thread that admits clients ends, and with it nobody else is let in")
            raise

    def _serve(self) -> None:
        poller = zmq.Poller()
        with closing(self._zap), closing(self._monitor):
            for one in (self._zap, self._monitor):
                poller.register(one, zmq.POLLIN)
            while not self._stopping.is_set():
                for one, _ in poller.poll(int(_TICK_SECONDS * 1000)):
                    if one is self._zap:
                        self._answer(self._zap.recv_multipart())
                    else:
                        self._follow(recv_monitor_message(self._monitor))

    # ---------------------------------------------------------------- who

    def _answer(self, request: list[bytes]) -> None:
        version, number, _domain, address, _identity, mechanism, *credentials = request
        name = self._authorized.name(credentials[0]) if mechanism == b"CURVE" and len(credentials) == 1 else None
        if name is None:
            self._note("unauthorized", address.decode("ascii", "replace"))
        status = b"300" if name is None else b"200"
        self._zap.send_multipart([version, number, status, b"", (name or "").encode(), b""])

    # ---------------------------------------------------------------- how many

    def _follow(self, happened: Any) -> None:
        event, descriptor = happened["event"], happened["value"]
        if event == zmq.Event.ACCEPTED:
            self._connected[descriptor] = self._unknown[descriptor] = None
            self._cut_surplus()
        elif event & _FAILED:
            metrics.CONNECTIONS_REFUSED.labels("handshake").inc()
        else:
            self._connected.pop(descriptor, None)
            self._unknown.pop(descriptor, None)

    def _cut_surplus(self) -> None:
        if len(self._unknown) > self._limits.unknown:
            # Only now is it worth a system call each to see which of them are known by now.
            self._unknown = {number: None for number in self._unknown if not _is_through(number)}
            while len(self._unknown) > self._limits.unknown:
                self._cut(next(iter(self._unknown)))
        while len(self._connected) > self._limits.connections:
            self._cut(next(reversed(self._connected)))

    def _cut(self, descriptor: int) -> None:
        """libzmq, which owns the connection, sees its end and closes it."""
        self._connected.pop(descriptor, None)
        self._unknown.pop(descriptor, None)
        with suppress(OSError), closing(_duplicate(descriptor)) as connection:
            if connection.getsockname()[1] == self.port:  # or else libzmq has closed it, and somebody reuses the number
                self._note("too many", str(connection.getpeername()[0]))
                connection.shutdown(socket.SHUT_RDWR)

    def _note(self, reason: str, address: str) -> None:
        metrics.CONNECTIONS_REFUSED.labels(reason).inc()
        self._log.warning("refused a connection from %s (%s)", address, reason)


def _duplicate(descriptor: int) -> socket.socket:
    """Raises OSError where it is no socket any more, since its owner may close it at any time."""
    return socket.socket(fileno=os.dup(descriptor))


def _is_through(descriptor: int) -> bool:
    try:
        with closing(_duplicate(descriptor)) as connection:
            information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED + 8)
    except OSError:
        return False
    return int(struct.unpack_from("Q", information, _BYTES_RECEIVED)[0]) >= _HANDSHAKE_BYTES
