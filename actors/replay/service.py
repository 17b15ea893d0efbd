"""The replay on its socket: one ROUTER, one thread, long polls, expiry."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from actors.errors import ProtocolError
from actors.observability import metrics
from actors.replay import messages as m
from actors.replay.buffer import OK, Replay, Reply
from actors.replay.ledger import Reason
from actors.transport.codec import Message, decode, encode

log = logging.getLogger(__name__)

#: Longest sleep of the loop: leases and long polls are looked at this often even where no message comes (s).
TICK_SECONDS = 0.25


@dataclass(slots=True)
class Waiting:
    """A long poll that has no answer yet."""

    identity: bytes
    message: Message
    request: m.LongPoll
    until: float


class ReplayService:
    """Owns the socket and the thread that serves it, from `start` to `stop`."""

    def __init__(
        self,
        replay: Replay,
        host: str,
        port: int,
        max_message_bytes: int,
        silence_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replay = replay
        self._max_bytes = max_message_bytes
        self._silence = silence_seconds
        self._clock = clock
        self._waiting: list[Waiting] = []
        self._exported: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, max_message_bytes)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        number = self._socket.bind_to_random_port(f"tcp://{host}") if port == 0 else port
        if port:
            self._socket.bind(f"tcp://{host}:{port}")
        self.address = f"tcp://{host}:{number}"
        self._thread = threading.Thread(target=self._serve, name="replay", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_seconds: float = 5.0) -> None:
        """End the thread and close the socket. Raises TimeoutError where the thread does not end."""
        self._stopping.set()
        self._thread.join(deadline_seconds)
        if self._thread.is_alive():
            raise TimeoutError(f"the replay's thread did not end within {deadline_seconds:g} s")
        self._socket.close()
        self._context.term()

    def join(self, seconds: float) -> bool:
        """Wait for the thread; True once it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # ---------------------------------------------------------------- the loop

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if self._socket.poll(int(TICK_SECONDS * 1000)):
                with metrics.busy("replay"):
                    self._take_all()
            self._replay.expire(self._clock(), self._silence)
            self._answer_waiting()
            self._export()

    def _take_all(self) -> None:
        for _ in range(1000):
            try:
                identity, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(identity, frames)

    def _take(self, identity: bytes, frames: list[bytes]) -> None:
        number = 0
        try:
            message = decode(frames, self._max_bytes)
            number = message.id
            request = self._replay.parse(message)
            metrics.MESSAGES.labels(message.kind).inc()
            reply = self._replay.answer(request, message.arrays, self._clock())
        except ProtocolError as error:
            metrics.MALFORMED.inc()
            log.warning("refused a message: %s", error)
            self._send(identity, Message("error", number, {"message": str(error)}))
            return
        if reply is not None:
            self._reply(identity, message, reply)
        elif isinstance(request, m.LongPoll) and request.wait_seconds > 0:
            self._waiting.append(Waiting(identity, message, request, self._clock() + request.wait_seconds))
        else:
            self._reply(identity, message, OK)

    def _answer_waiting(self) -> None:
        still = []
        for waiting in self._waiting:
            now = self._clock()
            reply = self._replay.answer(waiting.request, waiting.message.arrays, now)
            if reply is not None or now >= waiting.until:
                self._reply(waiting.identity, waiting.message, reply or OK)
            else:
                still.append(waiting)
        self._waiting = still

    def _reply(self, identity: bytes, message: Message, reply: Reply) -> None:
        self._send(identity, Message("reply", message.id, reply.body, reply.arrays))

    def _send(self, identity: bytes, message: Message) -> None:
        """A peer that is gone, or does not read, loses its answer; it asks again, or its lease expires."""
        try:
            self._socket.send_multipart([identity, *encode(message)], zmq.NOBLOCK)
        except zmq.Again:
            log.warning("a peer does not read its answers; one %s was dropped", message.kind)

    # ---------------------------------------------------------------- metrics

    def _export(self) -> None:
        ledger = self._replay.ledger
        for state, count in ledger.counts().items():
            metrics.GROUPS.labels(state).set(count)
        self._follow(metrics.ISSUED, "issued", ledger.issued)
        self._follow(metrics.COMMITTED, "committed", ledger.committed)
        for reason in Reason:
            self._follow(metrics.DROPPED.labels(reason), reason, ledger.dropped[reason])
        metrics.PENDING.set(len(ledger.pending))
        metrics.CONSERVED.set(ledger.conserved())
        roles = Counter(role for role, _ in self._replay.seen.values())
        for role in ("generator", "verifier", "learner"):
            metrics.WORKERS.labels(role).set(roles[role])

    def _follow(self, counter: Any, name: str, value: int) -> None:
        """The ledger counts; the exported counter follows it."""
        counter.inc(value - self._exported[name])
        self._exported[name] = value
