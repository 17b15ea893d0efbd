"""The replay on its socket: one ROUTER and one thread before buffer and board; long polls, expiry, metrics.

message ──parse──▶ heard ──▶ board   (who is alive, where services are, what happened)
                         └─▶ buffer  (groups, batches, evaluations) ──▶ metrics, events for the board
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.errors import ProtocolError
from actors.events import EvaluationDone, Event
from actors.membership import Report
from actors.observability import metrics
from actors.process import Seldom
from actors.replay import messages as m
from actors.replay.board import Board
from actors.replay.buffer import OK, Buffer, Reply
from actors.replay.ledger import Reason
from actors.transport.address import Node
from actors.transport.codec import Array, Message, decode, encode, parse
from actors.transport.sockets import open_router

log = logging.getLogger(__name__)

#: Longest sleep of the loop: leases and long polls are looked at this often even where no message comes (s).
TICK_SECONDS = 0.25
#: The roles that `leeway_workers` counts: those who work for the replay.
WORKER_ROLES = ("generator", "verifier", "learner")


@dataclass(slots=True)
class Waiting:
    """A long poll that has no answer yet."""

    identity: bytes
    message: Message
    request: m.AnyRequest
    until: float


class ReplayService:
    """Owns the socket and the thread that serves it, from `start` to `stop`.

    Args:
        buffer: the groups.
        board: everything else that the run's processes share.
        node: this process's place in the network.
        max_message_bytes: largest message that is accepted (bytes).
        name: of the replay as a member of the run.
        metrics_address: host:port of this process's /metrics.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        buffer: Buffer,
        board: Board,
        node: Node,
        max_message_bytes: int,
        name: str = "replay",
        metrics_address: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buffer, self._board = buffer, board
        self._max_bytes = max_message_bytes
        self._name, self._report = name, Report(ready=True, metrics=metrics_address)
        self._clock = clock
        self._waiting: list[Waiting] = []
        self._exported: Counter[str] = Counter()
        self._rejections, self._unread = Seldom(log), Seldom(log)
        self._stopping = threading.Event()
        self._socket = open_router(node, node.ports.replay, max_message_bytes, "network.ports.replay")
        self.address = self._socket.endpoint
        self._thread = threading.Thread(target=self._serve, name="replay", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_seconds: float = 5.0) -> None:
        """End the thread and close the socket.

        Raises:
            TimeoutError: if the thread does not end within `deadline_seconds`.
        """
        self._stopping.set()
        self._thread.join(deadline_seconds)
        if self._thread.is_alive():
            raise TimeoutError(f"the replay's thread did not end within {deadline_seconds:g} s")
        self._socket.close()

    def join(self, seconds: float) -> bool:
        """Wait for the thread; True once it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # ---------------------------------------------------------------- the loop

    def _serve(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._socket.poll(TICK_SECONDS):
                    with metrics.busy("replay"):
                        self._take_all()
                self._expire()
                self._answer_waiting()
                self._export()
        except Exception:
            log.exception("the replay's thread ends")
            raise

    def _take_all(self) -> None:
        for _ in range(1000):
            received = self._socket.receive()
            if received is None:
                return
            self._take(*received)

    def _take(self, identity: bytes, frames: list[bytes]) -> None:
        number = 0
        try:
            message = decode(frames, self._max_bytes)
            number = message.id
            request = parse(message, m.REQUESTS)
            metrics.MESSAGES.labels(message.kind).inc()
            self._heard(request)
            reply = self._answer(request, message.arrays)
        except ProtocolError as error:
            metrics.MALFORMED.inc()
            self._rejections.warning("rejected a message: %s", error)
            self._send(identity, Message("error", number, {"message": str(error)}))
            return
        if reply is not None:
            self._reply(identity, message, reply)
        elif isinstance(request, m.LongPoll) and request.wait_seconds > 0:
            self._waiting.append(Waiting(identity, message, request, self._clock() + request.wait_seconds))
        else:
            self._reply(identity, message, OK)

    def _answer(self, request: m.AnyRequest, arrays: Mapping[str, Array]) -> Reply | None:
        now = self._clock()
        if isinstance(request, m.BoardRequest):
            body = self._board.answer(request, now)
            if isinstance(request, m.RemoveMember):
                log.info("%s has exited; its leases are revoked", request.name)
                self._lost(request.name)
            elif isinstance(request, m.LeaveRun):
                log.info("%s leaves", request.worker)
                self._lost(request.worker, on_purpose=True)
            return None if body is None else Reply(body)
        reply = self._buffer.answer(request, arrays, now, self._board.members.version(request.worker))
        if reply is not None:
            self._happened(reply)
        return reply

    def _answer_waiting(self) -> None:
        still = []
        for waiting in self._waiting:
            now = self._clock()
            reply = self._answer(waiting.request, waiting.message.arrays)
            if reply is not None or now >= waiting.until:
                self._reply(waiting.identity, waiting.message, reply or OK)
            else:
                still.append(waiting)
        self._waiting = still

    def _happened(self, reply: Reply) -> None:
        """Tell the watchers and the metrics what a request has changed."""
        self._record(reply.events)
        for delivery in reply.delivered:
            metrics.STALENESS.observe(delivery.staleness)
            metrics.QUEUE_AGE.observe(delivery.queue_age_seconds)
        for group in reply.verified:
            for reward in group.rewards:
                metrics.REWARD.labels(group.source).observe(reward)

    def _record(self, events: Iterable[Event]) -> None:
        for event in events:
            self._board.record(event)
            if isinstance(event, EvaluationDone):
                metrics.HELD_OUT.set(event.pass_at_1)

    # ---------------------------------------------------------------- membership

    def _heard(self, request: m.Request) -> None:
        if self._board.members.heard(request.worker, request.role, self._clock()):
            log.info("%s joins, or is back", request.worker)

    def _expire(self) -> None:
        now = self._clock()
        members = self._board.members
        members.heard(self._name, "replay", now, self._report)
        for member in members.expire(now):
            log.warning("%s was not heard of for %g s; its leases are revoked", member.name, members.timeout_seconds)
            self._lost(member.name)
        self._record(self._buffer.expire(now))

    def _lost(self, name: str, on_purpose: bool = False) -> None:
        """Revoke what a process held that is off the list, or leaves. Its open long polls are answered, with nothing:
        were they kept, work could be leased to a dead process; and whoever lives asks again, and is taken back.
        """
        self._record(self._buffer.worker_lost(name, on_purpose))
        gone = [w for w in self._waiting if w.request.worker == name]
        self._waiting = [w for w in self._waiting if w.request.worker != name]
        for waiting in gone:
            self._reply(waiting.identity, waiting.message, OK)

    def _reply(self, identity: bytes, message: Message, reply: Reply) -> None:
        self._send(identity, Message("reply", message.id, reply.body, reply.arrays))

    def _send(self, identity: bytes, message: Message) -> None:
        """A peer that is gone, or does not read, loses its answer; it asks again, or its lease expires. One whose
        answer cannot be written is told so.
        """
        try:
            frames = encode(message)
        except ProtocolError as error:
            log.error("an answer is lost: %s", error)
            frames = encode(Message("error", message.id, {"message": str(error)}))
        if not self._socket.send(identity, frames):
            self._unread.warning("a peer does not read its answers; one %s was dropped", message.kind)

    # ---------------------------------------------------------------- metrics

    def _export(self) -> None:
        ledger = self._buffer.ledger
        for state, count in ledger.counts().items():
            metrics.GROUPS.labels(state).set(count)
        self._follow(metrics.ISSUED, "issued", ledger.issued)
        self._follow(metrics.COMMITTED, "committed", ledger.committed)
        for reason in Reason:
            self._follow(metrics.DROPPED.labels(reason), reason, ledger.dropped[reason])
        metrics.PENDING.set(len(ledger.pending))
        metrics.CONSERVED.set(ledger.conserved())
        for role in WORKER_ROLES:
            metrics.WORKERS.labels(role).set(sum(1 for _ in self._board.members.alive(role)))

    def _follow(self, counter: Any, name: str, value: int) -> None:
        """The ledger counts; the exported counter follows it."""
        counter.inc(value - self._exported[name])
        self._exported[name] = value
