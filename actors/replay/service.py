"""The replay on its socket: one ROUTER and one thread before buffer and board; long polls, expiry, metrics.

What a message costs does not grow with the groups that are held or with the workers that wait: long polls stand in
queues (`polls`), and what looks at every member or metric is done a few times a second.

message ──parse──▶ heard ──▶ board   (who is alive, where services are, what happened)
                         └─▶ buffer  (groups, batches, evaluations) ──▶ metrics, events for the board
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from actors.errors import ForbiddenError, ProtocolError
from actors.events import SAMPLE, EvaluationDone, Event
from actors.membership import Report
from actors.observability import metrics
from actors.process import Seldom
from actors.replay import messages as m
from actors.replay import rights
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.delivery import Delivery
from actors.replay.journal import Journal
from actors.replay.kept import KeptFiles
from actors.replay.limits import Reason, ReplayLimits
from actors.replay.outbox import Outbox
from actors.replay.polls import Poll, Polls, Topic
from actors.replay.queues import State
from actors.replay.reply import OK, Reply
from actors.transport.address import FREED_SECONDS, Node
from actors.transport.codec import Array, Frame, Message, decode, encode, parse
from actors.transport.sockets import open_router

log = logging.getLogger(__name__)

#: How often leases, members and metrics are looked at, which is also the longest sleep of the loop (s).
TICK_SECONDS = 0.25
#: Who has not looked at leases and members for so long, and for half of the members' timeout, has stood still (s).
STOOD_STILL_SECONDS = 2.0
#: Requests that one tick takes at most, and bytes: answers wait for the end of the tick.
TICK_MESSAGES, TICK_BYTES = 1000, 32 * 2**20
#: What is answered also while the journal cannot be written: it changes nothing that the journal keeps, and promises
#: nothing that could be lost. (Of events the board tells those alone that are durable.)
UNJOURNALED = (m.Beat, m.Members, m.Directory, m.Events, m.GetStatus)
#: The roles that `leeway_workers` counts: those who work for the replay.
WORKER_ROLES = ("generator", "verifier", "scorer", "learner")


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
        journal: what `buffer` and `board` are brought back from; it is closed with the service.
        kept: where completions of evaluations go that are kept.
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
        journal: Journal | None = None,
        kept: KeptFiles | None = None,
    ) -> None:
        self._buffer, self._board = buffer, board
        self._max_bytes = max_message_bytes
        self._name, self._report = name, Report(ready=True, metrics=metrics_address)
        self._clock = clock
        self._journal = journal
        self._outbox = Outbox(self._transmit, buffer, board, journal, clock, kept)
        self._polls = Polls()
        self._next_tick = -math.inf
        self._looked = clock()
        self._held_back = 0.0  # how long the rule `wait` has kept the next batch from the learner (s)
        self._exported: Counter[str] = Counter()
        self._rejections, self._unread = Seldom(log), Seldom(log)
        self._stopping = threading.Event()
        self._socket = open_router(
            node, node.ports.replay, max_message_bytes, "network.ports.replay", seconds=FREED_SECONDS
        )
        self.address = self._socket.endpoint
        self._thread = threading.Thread(target=self._serve, name="replay", daemon=True)
        _begin_at_zero(buffer.ledger.limits)

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_seconds: float = 30.0) -> None:
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
                wait = min(TICK_SECONDS, self._polls.next_deadline() - self._clock())
                if self._socket.poll(max(0.0, wait)):
                    with metrics.busy("replay"):
                        self._take_all()
                if self._clock() >= self._next_tick:
                    self._next_tick = self._clock() + TICK_SECONDS
                    self._expire()
                    self._count_waits()
                    self._export()
                self._answer_polls()
                self._outbox.flush()
        except Exception:
            log.exception("the replay's thread ends")
            raise
        finally:
            if self._journal is not None:
                self._journal.close()

    def _take_all(self) -> None:
        taken = 0
        for _ in range(TICK_MESSAGES):
            if taken > TICK_BYTES or (received := self._socket.receive()) is None:
                return
            taken += sum(map(len, received[1]))
            self._take(*received)

    def _take(self, identity: bytes, frames: list[Frame]) -> None:
        number = 0
        try:
            message = decode(frames, self._max_bytes)
            number = message.id
            request = parse(message, m.REQUESTS)
            rights.require(self._socket.sender_role, message.kind, request)
            metrics.MESSAGES.labels(message.kind).inc()
            self._heard(request)
            if self._outbox.blocked and not isinstance(request, UNJOURNALED):
                self._outbox.add(identity, Message("busy", number, {"message": self._outbox.blocked}))
                return
            if isinstance(request, m.LongPoll) and request.wait_seconds > 0 and not self._buffer.again(request, number):
                poll = Poll(identity, number, request, self._clock() + request.wait_seconds)
                self._polls.add(self._topic(request), poll)
                return
            reply = self._answer(request, message.arrays, number)
        except ProtocolError as error:
            self._refuse(identity, number, error)
            return
        self._reply(identity, number, reply or OK)

    def _answer(self, request: m.AnyRequest, arrays: Mapping[str, Array], number: int) -> Reply | None:
        now = self._clock()
        if isinstance(request, m.BoardRequest):
            body = self._board.answer(request, now)
            if isinstance(request, m.RemoveMember):
                log.info("%s has exited; its leases are revoked", request.name)
                self._lost(request.name)
            elif isinstance(request, m.Beat):
                self._requeue(request.worker)
            elif isinstance(request, m.LeaveRun):
                log.info("%s leaves", request.worker)
                self._lost(request.worker, on_purpose=True)
            return None if body is None else Reply(body)
        reply = self._buffer.answer(request, arrays, now, self._board.members.version(request.worker), number)
        if reply is not None:
            self._happened(reply)
        return reply

    # ---------------------------------------------------------------- long polls

    def _topic(self, request: m.LongPoll) -> Topic:
        match request:
            case m.Lease():  # the generator may take an update while its poll waits
                return m.Lease, max(request.version, self._board.members.version(request.worker))
            case m.TakeBatch():
                return m.TakeBatch, request.version
            case m.Events():
                return m.Events, request.after
            case _:
                return type(request), 0

    def _requeue(self, worker: str) -> None:
        """A worker reported a newer version, perhaps, for which there is work."""
        for number, topic, poll in self._polls.of(worker):
            if (now := self._topic(poll.request)) != topic:
                self._polls.move(number, now)

    def _answer_polls(self) -> None:
        for poll in self._polls.over(self._clock()):  # first: who has hung up since must not be given work
            self._reply(poll.identity, poll.message, OK)
        for topic in self._polls.topics():
            self._answer_topic(topic)

    def _answer_topic(self, topic: Topic) -> None:
        """Answer polls while there is something, each with no more than its share, so that none takes all of it."""
        refused = 0  # what there is may be for others, such as a task that their generator must not have
        while found := self._polls.first(topic, refused):
            number, poll = found
            waiting = self._polls.waiting(topic) - refused
            if not (available := self._available(topic)):
                return
            try:
                reply = self._answer(_at_most(poll.request, math.ceil(available / waiting)), {}, poll.message)
            except ProtocolError as error:
                self._polls.remove(number)
                self._refuse(poll.identity, poll.message, error)
                continue
            if reply is None:
                refused += 1
            else:
                self._polls.remove(number)
                self._reply(poll.identity, poll.message, reply)

    def _count_waits(self) -> None:
        """The learner may be waiting for a batch that is there, rather than outrun other groups."""
        ledger = self._buffer.ledger
        if ledger.counts()[State.READY] >= ledger.limits.groups_per_batch:
            asked = [number for kind, number in self._polls.topics() if kind is m.TakeBatch]
            self._held_back += TICK_SECONDS * any(map(ledger.waits, asked))

    def _available(self, topic: Topic) -> int:
        """How much there is of it: nothing where its polls have no answer yet."""
        kind, number = topic
        if self._outbox.blocked and kind not in UNJOURNALED:
            return 0
        training, evaluation = self._buffer.ledger, self._buffer.evaluations.current
        if kind is m.Lease:
            return training.to_lease(number) + (evaluation.ledger.to_lease(0) if evaluation else 0)
        if kind is m.LeaseVerification:
            ledgers = [training, evaluation.ledger] if evaluation else [training]
            return sum(ledger.counts()[State.GENERATED] for ledger in ledgers)
        return int(training.to_take(number) if kind is m.TakeBatch else number < self._board.last)

    def _happened(self, reply: Reply) -> None:
        """Tell the watchers and the metrics what a request has changed."""
        self._record(reply.events)
        if reply.submitted is not None:
            metrics.SUBMITTED_LENGTH.observe(reply.submitted)
        if reply.delivered:
            self._delivered(reply.delivered)
        for group in reply.verified:
            if group.band is not None:
                metrics.DIFFICULTY.labels(group.band).inc()
            rewards = metrics.REWARD.labels(group.source)
            for reward in group.rewards:
                rewards.observe(reward)
            for name, value in (part for parts in group.parts for part in parts.items()):
                metrics.REWARD_PART.labels(metrics.part_label(name)).observe(value)

    def _delivered(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            label = metrics.length_label(delivery.length)
            metrics.STALENESS.labels(label).observe(delivery.staleness)
            metrics.QUEUE_AGE.observe(delivery.queue_age_seconds, metrics.exemplar(delivery.group_id))
            metrics.DELIVERED_LENGTH.observe(delivery.length)
            metrics.MASKED_TOKENS.labels(label).inc(delivery.masked_tokens)
        last = min(deliveries, key=lambda delivery: delivery.queue_age_seconds)
        waited = metrics.STRAGGLER_WAIT.labels(metrics.length_label(last.length))
        waited.inc(self._held_back, metrics.exemplar(last.group_id))
        self._held_back = 0.0

    def _record(self, events: Iterable[Event]) -> None:
        for event in events:
            self._board.record(event)
            if isinstance(event, EvaluationDone) and event.name != SAMPLE:
                metrics.HELD_OUT.set(event.pass_at_1)

    # ---------------------------------------------------------------- membership

    def _heard(self, request: m.Request) -> None:
        if self._board.members.heard(request.worker, request.role, self._clock()):
            log.info("%s joins, or is back", request.worker)

    def _expire(self) -> None:
        now, before = self._clock(), self._looked
        self._looked, members = now, self._board.members
        members.heard(self._name, "replay", now, self._report)
        if self._outbox.blocked:
            return  # nobody can renew a lease, and no revocation can be kept
        if now - before > max(STOOD_STILL_SECONDS, members.timeout_seconds / 2):
            self._stood_still(now)
            return
        for member in members.expire(now):
            log.warning("%s was not heard of for %g s; its leases are revoked", member.name, members.timeout_seconds)
            self._lost(member.name)
        self._record(self._buffer.expire(now))
        for reason, length in self._buffer.dropped:
            metrics.DROPPED_LENGTH.labels(reason).observe(length)
        self._buffer.dropped.clear()

    def _stood_still(self, now: float) -> None:
        """This process was suspended, or its machine was: what the others have said meanwhile is still to be read."""
        log.warning("this process stood still; nobody is taken for dead over it, and all leases begin anew")
        for member in list(self._board.members.alive()):
            self._board.members.heard(member.name, member.role, now)
        self._buffer.state.begin_leases(now)

    def _lost(self, name: str, on_purpose: bool = False) -> None:
        """Revoke what a process held that is off the list, or leaves. Its open long polls are answered, with nothing:
        were they kept, work could be leased to a dead process; and whoever lives asks again, and is taken back.
        """
        self._record(self._buffer.worker_lost(name, on_purpose))
        for number, _, poll in self._polls.of(name):
            self._polls.remove(number)
            self._reply(poll.identity, poll.message, OK)

    # ---------------------------------------------------------------- answers

    def _reply(self, identity: bytes, number: int, reply: Reply) -> None:
        self._send(identity, Message("reply", number, reply.body, reply.arrays))

    def _refuse(self, identity: bytes, number: int, error: ProtocolError) -> None:
        forbidden = isinstance(error, ForbiddenError)
        (metrics.FORBIDDEN if forbidden else metrics.MALFORMED).inc()
        self._rejections.warning("rejected a message: %s", error)
        self._send(identity, Message("error", number, {"message": str(error), "forbidden": forbidden}))

    def _send(self, identity: bytes, message: Message) -> None:
        self._outbox.add(identity, message)

    def _transmit(self, identity: bytes, message: Message) -> None:
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
        metrics.PENDING.set(len(ledger.tasks.to_reissue()))
        for band in metrics.BANDS:
            self._follow(metrics.PASSED_OVER.labels(band), band, ledger.tasks.passed_over[band])
            metrics.FOLLOWED.labels(band).set(ledger.tasks.curriculum.bands[band])
        metrics.CONSERVED.set(ledger.conserved())
        metrics.QUEUE_OLDEST.set(self._buffer.oldest_ready_seconds(self._clock()))
        for role in WORKER_ROLES:
            metrics.WORKERS.labels(role).set(sum(1 for _ in self._board.members.alive(role)))

    def _follow(self, counter: Any, name: str, value: int) -> None:
        """The ledger counts; the exported counter follows it."""
        counter.inc(value - self._exported[name])
        self._exported[name] = value


def _begin_at_zero(limits: ReplayLimits) -> None:
    """Show every series with a known label, and the bounds that others are compared with, from the start."""
    metrics.STALENESS_BOUND.set(limits.max_staleness)
    metrics.GROUPS_PER_BATCH.set(limits.groups_per_batch)
    for kind in m.REQUESTS:
        metrics.MESSAGES.labels(kind)
    for reason in Reason:
        metrics.DROPPED_LENGTH.labels(reason)
    for length in metrics.LENGTH_LABELS:
        for metric in (metrics.STALENESS, metrics.STRAGGLER_WAIT, metrics.MASKED_TOKENS):
            metric.labels(length)


def _at_most(request: m.LongPoll, share: int) -> m.AnyRequest:
    """A request for as much as it asks, and no more than its share."""
    if isinstance(request, m.Lease | m.LeaseVerification) and share < request.capacity:
        return request.model_copy(update={"capacity": share})
    assert isinstance(request, m.AnyRequest)
    return request
