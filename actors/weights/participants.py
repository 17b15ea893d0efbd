"""Whom the publisher speaks to, over one ROUTER socket: generators, and the ranks that send a share of the weights.

They register, and are alive by the run's one list of members. A call goes to some of them, and waits for all answers.
"""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from actors.errors import ForbiddenError, ProtocolError
from actors.observability import metrics
from actors.process import Seldom
from actors.transport.address import Node
from actors.transport.codec import Message, decode, encode, parse
from actors.transport.sockets import open_router
from actors.weights import messages as m
from actors.weights.session import Body, BroadcastBrokenError, MembersLostError

log = logging.getLogger(__name__)

#: Whose keys a message may come with; other messages are taken from whoever has registered.
ROLES = {"register": ("generator",), "register_sender": ("learner",)}
#: Messages are looked for this often while answers are missing (s).
IDLE_SECONDS = 0.02
#: Messages that are taken before deadlines are looked at again, at most: one may send them without an end.
MOST_TAKEN = 256


@dataclass(slots=True, eq=False)
class Participant:
    """A generator that has registered, with `workers` ranks in a group and the version that it holds; or, without
    workers, a rank of the learner that sends."""

    identity: bytes
    name: str
    registered: float
    workers: int = 0
    version: int | None = None

    @property
    def receives(self) -> bool:
        return self.workers > 0

    def has(self, version: int) -> bool:
        """Whether a generator needs `version` no more."""
        return self.version is not None and self.version >= version


class Participants:
    """Any thread may call it: one that makes a call takes messages while it waits, for all.

    Args:
        node: where to listen; `endpoint` is what participants connect to.
        alive: names of those on the list of members, from any thread.
        timeout_seconds: the list's; for so long one that has just registered need not be on it yet (s).
        deadline_seconds: longest wait for an answer (s).
    """

    def __init__(
        self, node: Node, alive: Callable[[], frozenset[str]], timeout_seconds: float, deadline_seconds: float
    ) -> None:
        self._alive, self._timeout, self._deadline = alive, timeout_seconds, deadline_seconds
        self._socket = open_router(node, 0, m.MAX_BYTES)
        self.endpoint = self._socket.endpoint
        # A transport may call from a thread of its own while the one that started it waits.
        self._lock = threading.RLock()
        self.registered: dict[str, Participant] = {}
        self._listed: set[str] = set()  # whom the list has known: who registers anew is no newcomer
        self._answers: dict[int, queue.Queue[m.Answer]] = {}
        self._numbers = itertools.count(1)
        self._rejections = Seldom(log)

    def close(self) -> None:
        with self._lock:
            self._socket.close()

    def living(self) -> list[Participant]:
        """Those that have registered and are alive."""
        alive, participants, since = self._alive(), tuple(self.registered.values()), time.monotonic() - self._timeout
        self._listed.update(each.name for each in participants if each.name in alive)
        fresh = (each for each in participants if each.name not in self._listed and each.registered > since)
        return [*(each for each in participants if each.name in alive), *fresh]

    def evict(self, participant: Participant) -> None:
        """Forget a participant, and let it register anew."""
        if self.registered.get(participant.name) is participant:
            del self.registered[participant.name]
        self.send(participant, Message("rejoin", 0))

    # ---------------------------------------------------------------- calls

    def call(self, kind: str, bodies: Mapping[str, Body], aborted: threading.Event) -> Mapping[str, m.Answer]:
        """Ask each participant and wait for all answers; see `session.Caller`."""
        number = next(self._numbers)
        self._answers[number] = queue.Queue()
        asked = {name: participant for name in bodies if (participant := self.registered.get(name))}
        try:
            if missing := set(bodies) - set(asked):
                raise MembersLostError(missing, f"gone before {kind}")
            for name, participant in asked.items():
                self.send(participant, Message(kind, number, bodies[name]))
            return self._gather(kind, asked, self._answers[number], aborted)
        finally:
            del self._answers[number]

    def _gather(
        self, kind: str, asked: Mapping[str, Participant], coming: "queue.Queue[m.Answer]", aborted: threading.Event
    ) -> dict[str, m.Answer]:
        deadline = time.monotonic() + self._deadline
        answers: dict[str, m.Answer] = {}
        while missing := asked.keys() - answers.keys():
            if aborted.is_set():
                raise MembersLostError(set(missing), f"{kind}: the update was given up")
            self.take_messages(IDLE_SECONDS)
            while not coming.empty():
                answer = coming.get_nowait()
                if answer.error and asked[answer.name].receives:
                    raise MembersLostError({answer.name}, f"{kind}: {answer.error}")
                if answer.error:
                    raise BroadcastBrokenError(answer.name, f"{kind}: {answer.error}")
                answers[answer.name] = answer
            living = set(self.living())
            lost = {name for name in asked.keys() - answers.keys() if asked[name] not in living}
            if lost:
                raise MembersLostError(lost, f"no longer there for {kind}")
            if time.monotonic() > deadline and (late := asked.keys() - answers.keys()):
                raise MembersLostError(set(late), f"no answer to {kind} in {self._deadline:g} s")
        return answers

    # ---------------------------------------------------------------- the socket

    def send(self, participant: Participant, message: Message) -> None:
        self._send(participant.identity, message)

    def _send(self, identity: bytes, message: Message) -> None:
        with self._lock:
            if not self._socket.send(identity, encode(message)):
                log.warning("weights: somebody does not read its messages; one %s was dropped", message.kind)

    def take_messages(self, seconds: float) -> None:
        """Handle whatever has come, after a wait of `seconds` for the first message."""
        with self._lock:
            self._socket.poll(seconds)
            for received in islice(iter(self._socket.receive, None), MOST_TAKEN):
                identity, frames = received
                number = 0
                try:
                    message = decode(frames, m.MAX_BYTES)
                    number = message.id
                    role = self._socket.sender_role
                    if role is not None and role not in ROLES.get(message.kind, ("generator", "learner")):
                        raise ForbiddenError(f"{message.kind}: the key is a {role}'s")
                    self._handle(identity, number, parse(message, m.TO_LEARNER))
                except ProtocolError as error:
                    (metrics.FORBIDDEN if isinstance(error, ForbiddenError) else metrics.WEIGHT_MALFORMED).inc()
                    self._rejections.warning("weights: refused a message: %s", error)
                    self._send(identity, Message("error", number, {"message": str(error)}))

    def _handle(self, identity: bytes, number: int, body: object) -> None:
        match body:
            case m.Register():
                self._register(Participant(identity, body.name, time.monotonic(), body.workers, body.version))
            case m.RegisterSender():
                self._register(Participant(identity, body.name, time.monotonic()))
            case m.Deregister():
                known = self.registered.get(body.name)
                if known is not None and known.identity == identity:
                    del self.registered[body.name]
            case m.Answer():
                # Whoever waited may have given up meanwhile, in a thread of its own.
                participant, waiting = self.registered.get(body.name), self._answers.get(number)
                if waiting is not None and participant is not None and participant.identity == identity:
                    waiting.put(body)

    def _register(self, participant: Participant) -> None:
        known = self.registered.get(participant.name)
        if known is None or known.identity != participant.identity:
            self.registered[participant.name] = participant
            role = f"with version {participant.version}" if participant.receives else "which sends a stripe"
            log.info("weights: %s registered, %s", participant.name, role)
