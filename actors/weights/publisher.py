"""The learner's end of weight synchronisation: who receives, and a thread that sends the newest version.

Generators register on a ROUTER socket. Those that lack the newest version form a *membership epoch* with a broadcast
group of its own; a generator that comes, goes or misses a deadline starts a new epoch, and nobody else notices.

    registered, and alive by the run's one list of members    receives
    registered, and fallen off the list                       is skipped; once back, it gets what it missed
    failed in an update                                       is evicted, and told to register anew; see `retries`
    in an update that another one broke                       is told to give it up, and is in the next
    holds a newer version, of the learner before              keeps it until the learner has passed it

A learner that came back from a checkpoint trains the same batches again. The versions that it makes are those that the
generators hold already: bit-identical on CPUs, on GPUs the same but for the rounding of their kernels. To send them
once more would only age the completions under way, whose logprobs are those of the weights that sampled them.
"""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from actors.config.roles import WeightsConfig
from actors.errors import ForbiddenError, ProtocolError, RunError
from actors.events import WeightSync
from actors.observability import metrics
from actors.process import Seldom
from actors.transport.address import Node
from actors.transport.codec import Message, decode, encode, parse
from actors.transport.sockets import open_router
from actors.weights import messages as m
from actors.weights.background import in_background
from actors.weights.broadcast import BroadcastTransport
from actors.weights.retries import Retries
from actors.weights.session import Epoch, Measured, MembersLostError, Tensors, Transport
from learner.model.merging import Merging

log = logging.getLogger(__name__)

#: The thread looks at its socket this often while there is nothing to send (s).
IDLE_SECONDS = 0.02
#: While an update is under way, its members are looked at this often (s).
WATCH_SECONDS = 0.1
#: Longest end of the thread (s).
CLOSE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class WeightReceiver:
    """A registered generator."""

    identity: bytes
    name: str
    workers: int
    registered: float
    version: int | None = None


@dataclass(frozen=True, slots=True)
class WeightSnapshot:
    version: int
    tensors: Tensors


@dataclass(frozen=True, slots=True)
class AbandonedUpdate:
    """An update that was given up, whose thread has not come out of its broadcast; by `due` it has to."""

    work: Future[Measured]
    names: tuple[str, ...]
    due: float


class Publisher:
    """Sends snapshots to all generators, the newest first; older ones that were not sent yet are skipped.

    Args:
        config: the recipe's section.
        node: where to listen; `endpoint` is what generators connect to.
        dtype: of the weights on the wire.
        alive: names of the generators on the list of members, from any thread.
        timeout_seconds: the list's; for so long a generator that has just registered need not be on it yet (s).
        on_sync: called with the event after each update, in the thread that sends.
        merging: how generators merge the snapshots, where these are adapters alone.
        device: whose memory the bytes pass through, where they pass through any but the host's.
        transport: what carries the bytes.
    """

    def __init__(
        self,
        config: WeightsConfig,
        node: Node,
        dtype: torch.dtype,
        *,
        alive: Callable[[], frozenset[str]],
        timeout_seconds: float,
        on_sync: Callable[[WeightSync], None] = lambda _: None,
        merging: Merging | None = None,
        device: torch.device | None = None,
        transport: Callable[..., Transport] = BroadcastTransport,
    ) -> None:
        self._config, self._on_sync = config, on_sync
        self._connect = partial(
            transport,
            node=node,
            backend=config.backend,
            device=device or torch.device("cpu"),
            dtype=dtype,
            bucket_bytes=config.bucket_bytes,
            deadline_seconds=config.deadline_seconds,
            delta=config.delta,
        )
        self._merging = None if merging is None else asdict(merging)
        self._alive, self._timeout = alive, timeout_seconds
        self._socket = open_router(node, 0, m.MAX_BYTES)
        self.endpoint = self._socket.endpoint
        # A transport may call from a thread of its own while the one that started it waits.
        self._socket_lock = threading.RLock()
        self._members: dict[str, WeightReceiver] = {}
        self._listed: set[str] = set()  # whom the list has known: who registers anew is no newcomer
        self._receiving: frozenset[str] = frozenset()
        self._answers: dict[int, queue.Queue[m.Answer]] = {}
        self._numbers = itertools.count(1)
        self._newest: WeightSnapshot | None = None
        self._epoch: Epoch | None = None
        self._epoch_members: list[WeightReceiver] = []
        self._epoch_opened = False
        self._epochs = 0
        self._retries = Retries()
        self._abandoned: list[AbandonedUpdate] = []
        self._rejections = Seldom(log)
        self._sent = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- for the learner

    def publish(self, version: int, tensors: Tensors) -> None:
        """Offer a snapshot; returns at once. The tensors must not change afterwards.

        Raises:
            RunError: where the sending thread has died, or a broadcast does not end.
        """
        self._check()
        with self._sent:
            self._newest = WeightSnapshot(version, tensors)

    def wait(self, version: int, deadline_seconds: float) -> bool:
        """Wait until at least one generator holds `version` and none that is alive holds less.

        Raises:
            RunError: where the sending thread has died, or a broadcast does not end.
        """
        self._check()
        with self._sent:
            return self._sent.wait_for(lambda: self._everyone_has(version), deadline_seconds)

    def _everyone_has(self, version: int) -> bool:
        members = self._living()
        return bool(members) and all(_has(member, version) for member in members)

    def _check(self) -> None:
        if not self._thread.is_alive():
            raise RunError("the thread that sends weights has died; see logs/learner.log")
        for update in self._abandoned:
            if not update.work.done() and time.monotonic() > update.due:
                raise RunError(
                    f"a broadcast of weights to {', '.join(update.names)} does not end, though it was given up because "
                    "of a generator that died in it; resume the run from its newest checkpoint"
                )

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(CLOSE_SECONDS)
        self._abort_epoch()
        with self._socket_lock:
            self._socket.close()

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._take_messages(IDLE_SECONDS)
                members = self._living()
                self._note_changes(frozenset(member.name for member in members))
                newest = self._newest
                # One that is over holds on to its snapshot, by the traceback of its error.
                self._abandoned = [update for update in self._abandoned if not update.work.done()]
                behind = [member.name for member in members if newest and not _has(member, newest.version)]
                chosen = self._retries.choose(behind, time.monotonic())
                if newest and chosen:
                    self._sync(newest, [member for member in members if member.name in chosen])
        except Exception:
            log.exception("the thread that sends weights ends")
            raise

    def _living(self) -> list[WeightReceiver]:
        """The registered generators that are alive."""
        alive, members, since = self._alive(), tuple(self._members.values()), time.monotonic() - self._timeout
        self._listed.update(each.name for each in members if each.name in alive)
        fresh = (each for each in members if each.name not in self._listed and each.registered > since)
        return [*(each for each in members if each.name in alive), *fresh]

    def _note_changes(self, names: frozenset[str]) -> None:
        for name in sorted((self._receiving - names) & self._members.keys()):
            log.warning("weights: %s is off the list of members; it is skipped until it is back", name)
        if names != self._receiving:
            self._receiving = names
            with self._sent:
                self._sent.notify_all()

    def _sync(self, snapshot: WeightSnapshot, behind: list[WeightReceiver]) -> None:
        """One update. A full epoch where everyone is behind, one of the newcomers alone where they are."""
        start = time.monotonic()
        members = sorted(behind, key=lambda member: member.name)
        try:
            measured = self._carry_out(self._epoch_of(members), snapshot)
        except Exception as error:  # noqa: BLE001 - whatever broke, the epoch is over and training goes on without it
            self._epoch_broke(error)
            return
        self._retries.succeeded(member.name for member in members)
        with self._sent:
            for member in members:
                member.version = snapshot.version
            self._sent.notify_all()
        self._report(snapshot.version, len(members), measured, time.monotonic() - start)

    def _carry_out(self, epoch: Epoch, snapshot: WeightSnapshot) -> Measured:
        """The update runs in a thread of its own, since nothing can interrupt a broadcast that waits for a dead rank;
        this one looks on, and leaves it behind where it can no longer succeed.
        """
        members, opened = self._epoch_members, self._epoch_opened

        def work() -> Measured:
            if not opened:
                epoch.open(self._connect)
            return epoch.update(snapshot.version, snapshot.tensors)

        update = in_background(work, "weight-update")
        try:
            while not wait([update], WATCH_SECONDS).done:
                if epoch.failure is not None:
                    raise epoch.failure
                living = self._living()
                if lost := {member.name for member in members if member not in living}:
                    raise MembersLostError(lost, "no longer there in the middle of an update")
                if self._stopping.is_set():
                    raise MembersLostError(set(), "the learner ends")
            self._epoch_opened = True
            return update.result()
        finally:
            if not update.done():
                due = time.monotonic() + 2 * self._config.deadline_seconds
                abandoned = AbandonedUpdate(update, tuple(member.name for member in members), due)
                self._abandoned = [*(a for a in self._abandoned if not a.work.done()), abandoned]

    def _report(self, version: int, members: int, measured: Measured, total: float) -> None:
        metrics.SYNC_TRANSFER.observe(measured.transfer_seconds)
        metrics.SYNC_TOTAL.observe(total)
        metrics.SYNC_BYTES.inc(measured.bytes)
        self._on_sync(
            WeightSync(
                version=version,
                members=members,
                bytes=measured.bytes,
                transfer_seconds=measured.transfer_seconds,
                pause_seconds=measured.pause_seconds,
                total_seconds=total,
            )
        )

    def _epoch_of(self, members: list[WeightReceiver]) -> Epoch:
        """The epoch of exactly these members; the one before is given up where it had others."""
        if self._epoch is not None and self._epoch_members == members:
            return self._epoch
        self._abort_epoch()
        self._epochs += 1
        metrics.WEIGHT_EPOCH.set(self._epochs)
        workers = {member.name: member.workers for member in members}
        self._epoch, self._epoch_members = Epoch(self._epochs, workers, self._call, self._merging), members
        return self._epoch

    def _abort_epoch(self) -> None:
        epoch, self._epoch, self._epoch_members, self._epoch_opened = self._epoch, None, [], False
        if epoch is not None:
            epoch.abort()

    def _epoch_broke(self, error: Exception) -> None:
        """Evict whoever did not answer, and tell the others to give the update up; where the broadcast itself broke,
        everyone joins anew."""
        members, number = self._epoch_members, self._epochs
        lost = error.names if isinstance(error, MembersLostError) else {member.name for member in members}
        log.warning("weights: %s; a new epoch starts without %s", error, ", ".join(sorted(lost)) or "nobody")
        metrics.SYNC_FAILURES.inc(len(lost))
        self._retries.failed(lost, time.monotonic())
        self._abort_epoch()
        for member in members:
            if member.name not in lost:
                self._send(member.identity, Message("abort", 0, {"epoch": number}))
                continue
            if self._members.get(member.name) is member:
                del self._members[member.name]
            self._send(member.identity, Message("rejoin", 0))

    # ---------------------------------------------------------------- calls

    def _call(
        self, kind: str, bodies: Mapping[str, Mapping[str, Any]], aborted: threading.Event
    ) -> Mapping[str, m.Answer]:
        """Ask each member and wait for all answers; see `session.Caller`."""
        number = next(self._numbers)
        self._answers[number] = queue.Queue()
        asked = {name: member for name in bodies if (member := self._members.get(name))}
        try:
            if missing := set(bodies) - set(asked):
                raise MembersLostError(missing, f"gone before {kind}")
            for name, member in asked.items():
                self._send(member.identity, Message(kind, number, bodies[name]))
            return self._gather(kind, asked, self._answers[number], aborted)
        finally:
            del self._answers[number]

    def _gather(
        self, kind: str, asked: Mapping[str, WeightReceiver], coming: "queue.Queue[m.Answer]", aborted: threading.Event
    ) -> dict[str, m.Answer]:
        deadline = time.monotonic() + self._config.deadline_seconds
        answers: dict[str, m.Answer] = {}
        while missing := asked.keys() - answers.keys():
            if aborted.is_set():
                raise MembersLostError(set(missing), f"{kind}: the update was given up")
            self._take_messages(IDLE_SECONDS)
            while not coming.empty():
                answer = coming.get_nowait()
                if answer.error:
                    raise MembersLostError({answer.name}, f"{kind}: {answer.error}")
                answers[answer.name] = answer
            living = set(self._living())
            lost = {name for name in asked.keys() - answers.keys() if asked[name] not in living}
            if lost:
                raise MembersLostError(lost, f"no longer there for {kind}")
            if time.monotonic() > deadline and (late := asked.keys() - answers.keys()):
                raise MembersLostError(set(late), f"no answer to {kind} in {self._config.deadline_seconds:g} s")
        return answers

    # ---------------------------------------------------------------- the socket

    def _send(self, identity: bytes, message: Message) -> None:
        with self._socket_lock:
            if not self._socket.send(identity, encode(message)):
                log.warning("weights: a generator does not read its messages; one %s was dropped", message.kind)

    def _take_messages(self, seconds: float) -> None:
        """Handle whatever generators have sent, after a wait of `seconds` for the first message."""
        with self._socket_lock:
            self._socket.poll(seconds)
            while received := self._socket.receive():
                identity, frames = received
                number = 0
                try:
                    message = decode(frames, m.MAX_BYTES)
                    number = message.id
                    if self._socket.sender_role not in (None, "generator"):
                        raise ForbiddenError(f"{message.kind}: the key is a {self._socket.sender_role}'s")
                    self._handle(identity, number, parse(message, m.TO_LEARNER))
                except ProtocolError as error:
                    (metrics.FORBIDDEN if isinstance(error, ForbiddenError) else metrics.WEIGHT_MALFORMED).inc()
                    self._rejections.warning("weights: refused a message: %s", error)
                    self._send(identity, Message("error", number, {"message": str(error)}))

    def _handle(self, identity: bytes, number: int, body: object) -> None:
        match body:
            case m.Register():
                known = self._members.get(body.name)
                if known is None or known.identity != identity:
                    registered = WeightReceiver(identity, body.name, body.workers, time.monotonic(), body.version)
                    self._members[body.name] = registered
                    log.info("weights: %s registered, with version %s", body.name, body.version)
            case m.Deregister():
                known = self._members.get(body.name)
                if known is not None and known.identity == identity:
                    del self._members[body.name]
            case m.Answer():
                # Whoever waited may have given up meanwhile, in a thread of its own.
                member, waiting = self._members.get(body.name), self._answers.get(number)
                if waiting is not None and member is not None and member.identity == identity:
                    waiting.put(body)


def _has(member: WeightReceiver, version: int) -> bool:
    """Whether a generator needs `version` no more."""
    return member.version is not None and member.version >= version
