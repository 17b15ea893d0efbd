"""Clients of a replay that may be in shards: whoever asks need not know.

A shard that is away for a while holds up what is for it alone: the groups that it has, and the learner, whose batches
have a share of every shard. Leases are to be had from the others meanwhile: a shard that does not answer in a moment,
since it is suspended or its machine is, is asked for work in the background until it does or is given up, and for
nothing that can be done without it.
"""

import itertools
import logging
import threading
import zlib
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

from actors.errors import PeerTimeoutError
from actors.replay.shards import BRIEF, FIRST, joined, parts_of
from actors.transport.client import POLL_SECONDS, Client
from actors.transport.codec import Array, Message
from actors.transport.lifeline import REPLY_SECONDS, Lifeline, Shard

log = logging.getLogger(__name__)

#: What every shard may have, and one is enough.
LEASES = frozenset({"lease", "lease_verification"})
#: A shard that has not answered by then, beyond what it may hold a request back, does not keep anybody from others (s).
SLOW_SECONDS = 0.5


def connect(replay: str | Lifeline, worker: str, role: str, patience_seconds: float | None = None) -> "AnyClient":
    """A client of the replay; the arguments are those of `Client`."""
    lifeline = replay if isinstance(replay, Lifeline) else Lifeline(replay)
    if len(lifeline.shards) == 1:
        return Client(lifeline, worker, role, patience_seconds)
    return ShardedClient(lifeline, worker, role, patience_seconds)


class ShardedClient:
    """A `Client` of every shard. Threads may share it, and those that ask different shards do not wait for each other.

    Args:
        lifeline: the process's, which knows where the shards are.
        worker: unique name of the process.
        role: what the process is.
        patience_seconds: see `Client`.
    """

    def __init__(self, lifeline: Lifeline, worker: str, role: str, patience_seconds: float | None = None) -> None:
        self._shards: list[Shard] = lifeline.shards
        self._patient = [Client(shard, worker, role, patience_seconds) for shard in self._shards]
        self._brief = [Client(shard, worker, role, REPLY_SECONDS, once=True) for shard in self._shards]
        self._later = [ThreadPoolExecutor(1, thread_name_prefix="later") for _ in self._shards]
        self._threads = ThreadPoolExecutor(4 * len(self._shards), thread_name_prefix="shards")
        self._leasing = ThreadPoolExecutor(len(self._shards), thread_name_prefix="leasing")
        #: Requests for work that a shard has not answered in a moment.
        self._late: dict[int, Future[Message | None]] = {}
        self._lease_lock = threading.Lock()
        self._turns = itertools.count(zlib.crc32(worker.encode()))
        self._shares: tuple[Mapping[str, Any], dict[int, Message]] = ({}, {})
        self._shares_lock = threading.Lock()

    def request(
        self,
        kind: str,
        body: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
        wait_seconds: float = 0.0,
        deadline_seconds: float | None = None,
    ) -> Message:
        """As `Client.request`."""
        body, options = body or {}, (arrays, wait_seconds, deadline_seconds)
        if kind == "directory":
            return self._from_any(kind, body, *options)
        parts = parts_of(kind, body, len(self._shards))
        if kind == "verdict":
            return self._verdict(kind, parts, *options)
        if kind == "trained":  # the first tells of the step, and of what the groups of all shards say of it
            others = self._ask(kind, {shard: part for shard, part in parts.items() if shard != FIRST}, *options)
            tallies = [others[shard].body["tally"] for shard in sorted(others)]
            parts = {FIRST: {**body, "tallies": tallies}}
        return joined(kind, body, self._ask(kind, parts, *options), len(self._shards))

    def poll(
        self, kind: str, body: Mapping[str, Any] | None = None, wait_seconds: float = POLL_SECONDS
    ) -> Message | None:
        """As `Client.poll`."""
        body = body or {}
        if kind in LEASES:
            return self._lease(kind, body, wait_seconds)
        if kind == "take_batch":
            return self._batch(body, wait_seconds)
        try:
            reply = self.request(kind, body, None, wait_seconds, REPLY_SECONDS)
        except PeerTimeoutError:
            return None
        return reply if reply.body else None

    # ---------------------------------------------------------------- several shards

    def _ask(self, kind: str, parts: Mapping[int, Mapping[str, Any]], *options: Any) -> dict[int, Message]:
        """The answers of some shards, all of which are asked at once. Of what is brief, of those that are there."""
        clients = self._brief if kind in BRIEF else self._patient
        if kind in BRIEF:
            parts = {shard: part for shard, part in parts.items() if self._is_there(shard)}
            if not parts:
                raise PeerTimeoutError(f"the replay is away, and could not {kind}")
        if len(parts) == 1:
            ((shard, part),) = parts.items()
            return {shard: clients[shard].request(kind, part, *options)}
        asked = {
            shard: self._threads.submit(clients[shard].request, kind, part, *options) for shard, part in parts.items()
        }
        replies: dict[int, Message] = {}
        missing: list[PeerTimeoutError] = []
        for shard, answer in asked.items():
            try:
                replies[shard] = answer.result()
            except PeerTimeoutError as error:
                missing.append(error)
        if missing and (kind not in BRIEF or not replies):
            raise missing[0]
        return replies

    def _verdict(self, kind: str, parts: Mapping[int, Mapping[str, Any]], *options: Any) -> Message:
        """Where its shard is away the verdict waits for it, and whoever has reached it goes on with other groups."""
        ((shard, part),) = parts.items()
        try:
            return self._ask(kind, parts, *options)[shard]
        except PeerTimeoutError as error:
            log.info("%s; it waits until the shard is back", error)
        later = self._later[shard].submit(self._patient[shard].request, kind, part, options[0])  # with its arrays
        later.add_done_callback(_say_what_broke)
        return Message("reply", 0)

    def _from_any(self, kind: str, body: Mapping[str, Any], *options: Any) -> Message:
        *first, last = self._in_turn()
        for shard in first:
            with suppress(PeerTimeoutError):
                return self._brief[shard].request(kind, body, *options)
        return self._patient[last].request(kind, body, *options)

    def _is_there(self, shard: int) -> bool:
        late = self._late.get(shard)
        return not self._shards[shard].away and (late is None or late.done())

    def _in_turn(self) -> list[int]:
        """The shards that are there, in another order each time; all of them, where none is."""
        turn, count = next(self._turns), len(self._shards)
        order = [(turn + i) % count for i in range(count)]
        return [shard for shard in order if self._is_there(shard)] or order

    def _lease(self, kind: str, body: Mapping[str, Any], wait_seconds: float) -> Message | None:
        """Work of whichever shard has some. Where none has, one of them is waited at for a while."""
        with self._lease_lock:
            order = self._in_turn()
            for shard in (*self._late, *order):
                if (reply := self._leased_by(shard, kind, body, 0.0)) is not None:
                    return reply
            first = next((shard for shard in order if shard not in self._late), None)
            if first is not None:
                return self._leased_by(first, kind, body, wait_seconds / len(self._shards))
            wait(self._late.values(), wait_seconds, FIRST_COMPLETED)
            return None

    def _leased_by(self, shard: int, kind: str, body: Mapping[str, Any], wait_seconds: float) -> Message | None:
        """Work of one shard; None where it has none, or has not said so yet."""
        late = self._late.pop(shard, None)
        asked = late or self._leasing.submit(self._brief[shard].poll, kind, body, wait_seconds)
        wait([asked], 0.0 if late else wait_seconds + SLOW_SECONDS)
        if asked.done():
            return asked.result()
        self._late[shard] = asked
        return None

    def _batch(self, body: Mapping[str, Any], wait_seconds: float) -> Message | None:
        """A batch, once every shard has its share of it; a share that has come is not fetched again."""
        with self._shares_lock:
            if self._shares[0] != body:
                self._shares = (dict(body), {})
            shares = self._shares[1]
            missing = [shard for shard in range(len(self._shards)) if shard not in shares]
            polls = [self._threads.submit(self._patient[s].poll, "take_batch", body, wait_seconds) for s in missing]
            shares |= {s: share for s, poll in zip(missing, polls, strict=True) if (share := poll.result()) is not None}
            if len(shares) < len(self._shards):
                return None
            self._shares = ({}, {})
        return joined("take_batch", body, shares, len(self._shards))

    def close(self) -> None:
        """As `Client.close`."""
        for client in (*self._patient, *self._brief):
            client.close()
        for threads in (self._threads, self._leasing, *self._later):
            threads.shutdown(wait=False, cancel_futures=True)


def _say_what_broke(verdict: "Future[Message]") -> None:
    if not verdict.cancelled() and (error := verdict.exception()) is not None:
        log.warning("%s; the group will be verified again", error)


AnyClient = Client | ShardedClient
