"""Clients of the replay: one request at a time, each with a deadline that names the replay."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from actors.errors import ForbiddenError, PeerTimeoutError, ProtocolError
from actors.membership import Report
from actors.observability.waits import waiting
from actors.transport.codec import Array, Message, decode, encode
from actors.transport.lifeline import REPLY_SECONDS, Lifeline, Shard, ShardLine
from actors.transport.sockets import DealerSocket

log = logging.getLogger(__name__)

#: Replies are batches of groups; the replay itself bounds what it accepts, so this only stops nonsense.
MAX_REPLY_BYTES = 2**31
#: How long the replay may hold a request for work back (s). Short, so that a worker notices when it is to stop.
POLL_SECONDS = 1.0
#: A replay that cannot change anything now, since its disk is full, is asked again after so long (s).
BUSY_SECONDS = 0.5
#: Where the connection to the replay is lost, a request is sent again after so long, and twice as long each time (s).
LOST_SECONDS = 0.1
#: How often a client that waits for an answer looks whether it is being closed, or the replay has moved meanwhile (s).
LOOK_SECONDS = 1.0


class Numbers:
    """Numbers the requests of one client, and says which of them never come again. For one thread at a time."""

    def __init__(self) -> None:
        self._client = secrets.token_hex(8)
        self._next = 1
        self._open: set[int] = set()
        self._given_up: dict[str, int] = {}

    @contextmanager
    def of(self, kind: str, *, goes_on: bool = False) -> Iterator[int]:
        """The number of a request, which may be sent more than once within the block.

        Where the request `goes_on` and the block ends by a PeerTimeoutError, the next one of its kind is the same
        request once more, and gets what this one was given.
        """
        if (number := self._given_up.pop(kind, None)) is None:
            number, self._next = self._next, self._next + 1
            self._open.add(number)
        try:
            yield number
        except PeerTimeoutError:
            if goes_on:
                self._given_up[kind] = number
            raise
        finally:
            if self._given_up.get(kind) != number:
                self._open.discard(number)

    def told(self) -> dict[str, Any]:
        """What every request says of them."""
        return {"client": self._client, "settled": min(self._open, default=self._next)}


class Client:
    """One connection of one worker. Threads may share it; their requests then queue up behind each other.

    A request that is not answered is sent again until its patience is at an end, to wherever the replay is by then:
    one that has died comes back, perhaps elsewhere. The replay takes whatever it has taken before for what it is, by
    the request's number, and gives the same answer. So a long poll for work that was given up goes on under its number
    with the next one: what it was given is not lost. Over a slow wire the answer may be under way all the while: every
    time that none came the next may take twice as long.

    Args:
        replay: its address, or the process's lifeline, which knows it.
        worker: unique name of the process.
        role: what the process is.
        patience_seconds: a reply is due after so long, where a request says nothing else (s); default: the lifeline's.
        once: a request is sent once, and fails where the connection is lost or none comes about: another shard of the
            replay, or another scorer, can be asked instead.
        peer: who is asked, where it is not the replay.
    """

    def __init__(
        self,
        replay: str | ShardLine,
        worker: str,
        role: str,
        patience_seconds: float | None = None,
        once: bool = False,
        peer: str = "replay",
    ) -> None:
        self._lifeline: ShardLine = Lifeline(replay) if isinstance(replay, str) else replay
        self._once, self._peer = once, peer
        self._patience = self._lifeline.patience_seconds if patience_seconds is None else patience_seconds
        self._sender = {"worker": worker, "role": role}
        self._numbers = Numbers()
        self._answer_seconds = REPLY_SECONDS
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.address = self._lifeline.replay
        self._socket = DealerSocket(self.address, MAX_REPLY_BYTES)

    def request(
        self,
        kind: str,
        body: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
        wait_seconds: float = 0.0,
        deadline_seconds: float | None = None,
    ) -> Message:
        """Send one request and wait for its reply.

        Args:
            kind: of the request.
            body: its fields, without those that name the sender.
            arrays: what travels beside the body.
            wait_seconds: how long the replay may hold a long poll back (s).
            deadline_seconds: the reply is due this long after that (s); by default the client's patience.

        A replay that can take nothing in for a while, since its disk is full, is asked again for as long as it says so;
        where `deadline_seconds` is given, only until then.

        Raises:
            PeerTimeoutError: where none comes, or another thread closes the client meanwhile.
            ProtocolError: where the replay refuses the request.
            ForbiddenError: where this process's key is not for a role that sends it.
        """
        return self._request(kind, body or {}, arrays or {}, wait_seconds, deadline_seconds)

    def _request(
        self,
        kind: str,
        body: Mapping[str, Any],
        arrays: Mapping[str, Array],
        wait_seconds: float,
        deadline_seconds: float | None,
        goes_on: bool = False,
    ) -> Message:
        """Where it `goes_on`, the next one of its kind is the same request once more if this one has no answer."""
        due = wait_seconds + (self._patience if deadline_seconds is None else deadline_seconds)
        until = None if deadline_seconds is None else time.monotonic() + due
        counted = waiting(self._peer, kind, counted_as=kind)
        with self._lock, counted, self._numbers.of(kind, goes_on=goes_on) as number:
            told = {**body, **self._sender, **(self._numbers.told() if self._peer == "replay" else {})}
            if wait_seconds:
                told["wait_seconds"] = wait_seconds
            reply = self._answer_unless_busy(Message(kind, number, told, arrays), wait_seconds, due, until)
        if reply.kind == "error":
            refused = ForbiddenError if reply.body.get("forbidden") else ProtocolError
            raise refused(f"the {self._peer} refused {kind}: {reply.body.get('message')}")
        return reply

    def _answer_unless_busy(self, request: Message, wait_seconds: float, due: float, until: float | None) -> Message:
        """Nothing else is asked meanwhile: what this has changed before may have to be answered yet."""
        while (reply := self._answer_to(request, wait_seconds, due)).kind == "busy":  # so patience begins anew
            if until is not None and time.monotonic() > until:
                reason = reply.body.get("message")
                raise PeerTimeoutError(f"{self._named} could not {request.kind}: {reason}")
            self._closing.wait(BUSY_SECONDS)
        return reply

    def poll(
        self, kind: str, body: Mapping[str, Any] | None = None, wait_seconds: float = POLL_SECONDS
    ) -> Message | None:
        """A long poll for work; None where there is none, or where the replay is away for a moment."""
        try:
            reply = self._request(kind, body or {}, {}, wait_seconds, self._answer_seconds, goes_on=True)
        except PeerTimeoutError as error:
            log.warning("%s; asking again", error)
            return None
        return reply if reply.body else None

    def _answer_to(self, request: Message, wait_seconds: float, due_seconds: float) -> Message:
        """The reply to a request, which is sent again every so often until it is due."""
        self._require_open(request.kind)
        frames, end = encode(request), time.monotonic() + due_seconds
        pause_seconds = LOST_SECONDS
        while True:
            self._socket.send(frames)
            sent, again = time.monotonic(), time.monotonic() + wait_seconds + self._answer_seconds
            if (reply := self._reply_to(request.id, min(again, end))) is not None:
                self._lifeline.answered()
                self._answer_seconds = max(REPLY_SECONDS, 2 * (time.monotonic() - sent - wait_seconds))
                return reply
            self._require_open(request.kind)
            self._lifeline.unanswered()
            if self._socket.lost:
                time.sleep(min(pause_seconds, max(0.0, end - time.monotonic())))
                pause_seconds = min(2 * pause_seconds, REPLY_SECONDS)
            elif time.monotonic() >= min(again, end) and due_seconds >= wait_seconds + self._answer_seconds:
                # Over a slow wire it may be under way all the while.
                self._answer_seconds = min(2 * self._answer_seconds, max(REPLY_SECONDS, self._patience))
            named = self._named
            self._connect_again()
            if self._once or time.monotonic() >= end:
                raise PeerTimeoutError(f"{named} did not answer {request.kind} within {round(due_seconds, 2):g} s")
            log.warning("%s does not answer %s; asking again", named, request.kind)

    def _reply_to(self, number: int, due: float) -> Message | None:
        """The reply to a request; None where there is none by then, or where the replay has ended or moved."""
        while not self._closing.is_set():
            left = max(0.0, due - time.monotonic())
            if self._socket.poll(min(LOOK_SECONDS, left)):
                reply = decode(self._socket.receive(), MAX_REPLY_BYTES)
                if reply.id == number:
                    return reply
            elif time.monotonic() >= due or self._gone():
                break
        return None

    def _gone(self) -> bool:
        """Whether the replay that was asked will not answer any more, or is not to be waited for."""
        absent = self._once and not self._socket.greeted
        return absent or self._socket.lost or self.address != self._lifeline.replay

    def _require_open(self, kind: str) -> None:
        if self._closing.is_set():
            raise PeerTimeoutError(f"{self._named} had not answered {kind} when this process ended")

    @property
    def _named(self) -> str:
        return f"the {self._peer} at {self.address}"

    def _connect_again(self) -> None:
        """A late reply must not be taken for the answer to a later request, and an unsent request must not pile up."""
        if self.address == self._lifeline.replay:
            self._socket.reconnect()
            return
        self._socket.close()
        self.address = self._lifeline.replay
        self._socket = DealerSocket(self.address, MAX_REPLY_BYTES)

    def close(self) -> None:
        """End a request that another thread waits for, at once, and whatever is asked later."""
        self._closing.set()
        with self._lock:
            self._socket.close()


class Heartbeat:
    """Reports a process to the run's list of members, from a thread of its own, and brings back who else is on it.

    Args:
        replay: which keeps the list: its address, or the process's lifeline, which knows it.
        worker: unique name of the process.
        role: what the process is.
        interval_seconds: time between two reports (s); the first leaves at once.
        report: what to say, called in the heartbeat's thread.
    """

    def __init__(
        self, replay: str | Lifeline, worker: str, role: str, interval_seconds: float, report: Callable[[], Report]
    ) -> None:
        lifeline = Lifeline(replay) if isinstance(replay, str) else replay
        self._services: dict[str, str] = {}
        self._interval, self._report = interval_seconds, report
        self._stopping = False
        self._pulses = [Pulse(shard, Client(shard, worker, role)) for shard in lifeline.shards]
        self._threads = [
            threading.Thread(target=self._run, args=(pulse,), name="heartbeat", daemon=True) for pulse in self._pulses
        ]
        for thread in self._threads:
            thread.start()

    def announce(self, service: str, address: str) -> None:
        """Say with every report where a service of this process is: a replay that starts anew has to know."""
        self._services = {**self._services, service: address}
        self.beat_now()

    def beat_now(self) -> None:
        """Report without waiting for the interval to end, since something has changed; returns at once."""
        for pulse in self._pulses:
            pulse.wake.set()

    def alive(self, role: str) -> frozenset[str]:
        """Names of the processes of a role on the list, by its latest reply; empty before the first."""
        return frozenset().union(*(pulse.alive.get(role, frozenset()) for pulse in self._told()))

    def scorers(self) -> Mapping[str, str]:
        """Where those on the list are that take requests, by name, by its latest reply to a verifier."""
        return {name: address for pulse in self._told() for name, address in pulse.scorers.items()}

    def _told(self) -> "list[Pulse]":
        return [pulse for pulse in self._pulses if not pulse.shard.away] or self._pulses

    def _run(self, pulse: "Pulse") -> None:
        while not self._stopping:
            pulse.wake.clear()
            # One that got no answer is repeated at once: the list's timeout may be as short as three intervals.
            if self._beat(pulse):
                pulse.wake.wait(self._interval)
        self._beat(pulse)  # what was done since the last one

    def _beat(self, pulse: "Pulse") -> bool:
        """Send one report; whether it was answered in time. Nothing that goes wrong here may end the thread."""
        try:
            body = {"report": self._report().model_dump(), "services": self._services}
            reply = pulse.client.request("heartbeat", body, deadline_seconds=self._interval)
            if "alive" in reply.body:
                pulse.alive = {role: frozenset(names) for role, names in reply.body["alive"].items()}
            pulse.scorers = reply.body.get("scorers", {})
        except PeerTimeoutError as error:
            log.info("%s; the next heartbeat tells all that this one would have", error)
            return False
        except ProtocolError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("a heartbeat could not be sent")
        return True

    def close(self) -> None:
        self._stopping = True
        self.beat_now()
        due = time.monotonic() + 3 * self._interval
        for thread in self._threads:
            thread.join(max(0.0, due - time.monotonic()))
        for pulse in self._pulses:
            pulse.client.close()  # nothing is sent from here on, whatever the thread still waits for


@dataclass(slots=True, eq=False)
class Pulse:
    """Reports to one shard of the replay.

    Attributes:
        alive: names of the processes of each role on its list, by its latest reply.
        scorers: addresses of those that take requests, likewise.
        wake: ends the pause between two reports.
    """

    shard: Shard
    client: Client
    alive: Mapping[str, frozenset[str]] = field(default_factory=dict)
    scorers: Mapping[str, str] = field(default_factory=dict)
    wake: threading.Event = field(default_factory=threading.Event)
