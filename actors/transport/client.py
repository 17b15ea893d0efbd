"""Clients of the replay: one request at a time, each with a deadline that names the replay."""

import itertools
import logging
import threading
from collections.abc import Mapping
from typing import Any

from actors.errors import PeerTimeoutError, ProtocolError
from actors.transport.codec import Array, Message, decode, encode
from actors.transport.sockets import DealerSocket

log = logging.getLogger(__name__)

#: Replies are batches of groups; the replay itself bounds what it accepts, so this only stops nonsense.
MAX_REPLY_BYTES = 2**31
#: How long the replay may hold a request for work back (s). Short, so that a worker notices when it is to stop.
POLL_SECONDS = 1.0


class Client:
    """One connection of one worker. Threads may share it; their requests then queue up behind each other."""

    def __init__(self, address: str, worker: str, role: str) -> None:
        self.address = address
        self._sender = {"worker": worker, "role": role}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._socket = DealerSocket(address, MAX_REPLY_BYTES)

    def request(
        self,
        kind: str,
        body: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
        wait_seconds: float = 0.0,
        deadline_seconds: float = 10.0,
    ) -> Message:
        """Send one request and wait for its reply.

        `wait_seconds` is how long the replay may hold a long poll back; the reply is due `deadline_seconds` after that.
        Raises PeerTimeoutError where none comes, and ProtocolError where the replay refuses the request.
        """
        body = {**(body or {}), **self._sender}
        if wait_seconds:
            body["wait_seconds"] = wait_seconds
        with self._lock:
            number = next(self._numbers)
            self._socket.send(encode(Message(kind, number, body, arrays or {})))
            reply = self._reply_to(kind, number, wait_seconds + deadline_seconds)
        if reply.kind == "error":
            raise ProtocolError(f"the replay refused {kind}: {reply.body.get('message')}")
        return reply

    def poll(
        self, kind: str, body: Mapping[str, Any] | None = None, wait_seconds: float = POLL_SECONDS
    ) -> Message | None:
        """A long poll for work; None where there is none, or where the replay is away for a moment."""
        try:
            reply = self.request(kind, body, wait_seconds=wait_seconds)
        except PeerTimeoutError as error:
            log.warning("%s; asking again", error)
            return None
        return reply if reply.body else None

    def _reply_to(self, kind: str, number: int, seconds: float) -> Message:
        while self._socket.poll(seconds):
            reply = decode(self._socket.receive(), MAX_REPLY_BYTES)
            if reply.id == number:
                return reply
        # A late reply must not be taken for the answer to a later request, and an unsent request must not pile up.
        self._socket.reconnect()
        raise PeerTimeoutError(f"the replay at {self.address} did not answer {kind} within {seconds:g} s")

    def close(self) -> None:
        with self._lock:
            self._socket.close()


class Heartbeat:
    """Tells the replay that a worker lives while it is busy with something else."""

    def __init__(self, address: str, worker: str, role: str, interval_seconds: float) -> None:
        self._client = Client(address, worker, role)
        self._interval = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self._client.request("heartbeat", deadline_seconds=self._interval)
            except PeerTimeoutError:
                continue  # the requests of the worker itself report a replay that is gone

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(2 * self._interval)
        self._client.close()
