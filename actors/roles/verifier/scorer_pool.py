"""The scorers of a run as one: whoever asks need not know how many there are, or which of them has just died.

Of those on the run's list that take requests the one is asked that has fewest requests of this verifier. One that
cannot be reached, fails or does not answer rests for a while, and another is asked, for as long as the group has time:
where there is another, the first one has half of it. What is given up at a scorer it does not begin any more.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from actors.deadline import until
from actors.errors import GaveUpError, PeerTimeoutError, ProtocolError, ScorerError
from actors.observability import metrics
from actors.observability.waits import waiting
from actors.process import Seldom
from actors.roles.scorer.messages import MAX_WAIT_SECONDS, scores_in
from actors.roles.verifier.scoring import PART
from actors.tasks import Task
from actors.transport.client import Client
from actors.transport.codec import Array, Message
from learner.errors import BatchError

log = logging.getLogger(__name__)

#: How often a thread that has nobody to ask looks for somebody (s).
LOOK_SECONDS = 0.1
#: Before a scorer that failed is asked again (s); twice as long each time, up to `MOST_REST_SECONDS`.
REST_SECONDS, MOST_REST_SECONDS = 1.0, 60.0
#: An answer that leaves a scorer in time may travel for so long (s).
TRAVEL_SECONDS = 0.5


@dataclass(slots=True)
class Candidates:
    """Which scorer is asked next, by address. Pure; moments are of one monotonic clock (s)."""

    _asked: Counter[str] = field(default_factory=Counter)
    _rests_until: dict[str, float] = field(default_factory=dict)
    _rest_seconds: dict[str, float] = field(default_factory=dict)

    def rested(self, listed: Iterable[str], now: float) -> list[str]:
        """Those that may be asked."""
        return [address for address in listed if self._rests_until.get(address, 0.0) <= now]

    def take(self, listed: Iterable[str], now: float) -> tuple[str, bool] | None:
        """Who is to be asked, and whether another could be; None where nobody may be asked now."""
        rested = self.rested(listed, now)
        if not rested:
            return None
        chosen = min(rested, key=lambda address: self._asked[address])
        self._asked[chosen] += 1
        return chosen, len(rested) > 1

    def ended(self, address: str, now: float, *, failed: bool) -> None:
        """A request to it came to an end."""
        self._asked[address] -= 1
        if failed and self._rests_until.get(address, 0.0) > now:
            return  # as it has to others already, which asked it at the same time
        if failed:
            rest = self._rest_seconds.get(address, REST_SECONDS)
            self._rests_until[address] = now + rest
            self._rest_seconds[address] = min(2 * rest, MOST_REST_SECONDS)
        else:
            self._rests_until.pop(address, None)
            self._rest_seconds.pop(address, None)

    def forget_all_but(self, listed: Iterable[str]) -> None:
        """The others are gone; another may listen there one day."""
        kept = set(listed)
        for gone in (self._rests_until.keys() | self._rest_seconds.keys()) - kept:
            self._rests_until.pop(gone, None)
            self._rest_seconds.pop(gone, None)
        for gone in [address for address, asked in self._asked.items() if not asked and address not in kept]:
            del self._asked[gone]


class ScorerLine:
    """What a client needs to know of the scorer that it asks; it stays where it is."""

    def __init__(self, address: str) -> None:
        self.replay, self.patience_seconds = address, TRAVEL_SECONDS

    def answered(self) -> None:
        """Which `ScorerPool` sees by itself."""

    def unanswered(self) -> None:
        """Likewise."""


class Question(NamedTuple):
    """A request to a scorer, and how many scores answer it."""

    kind: str
    body: Mapping[str, object]
    arrays: Mapping[str, Array]
    scores: int


class ScorerPool:
    """Threads share it; each has a connection of its own while it asks.

    Args:
        name: of this verifier.
        patience_seconds: longest wait for a scorer where there is none (s).
        listed: where the scorers are that take requests, by name.
        patience_key: of the recipe, that sets the patience.
    """

    def __init__(
        self,
        name: str,
        patience_seconds: float,
        listed: Callable[[], Mapping[str, str]],
        patience_key: str = "preferences.wait_seconds",
    ) -> None:
        self._patience_key = patience_key
        self._name, self._patience, self._listed = name, patience_seconds, listed
        self._lock = threading.Lock()
        self._candidates = Candidates()
        self._idle: dict[str, list[Client]] = {}
        self._closed = False
        self._seldom = Seldom(log)

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """Return once there is a scorer to ask, or on a stop: where all have died no group is lost to that.

        Raises:
            GaveUpError: there is none for `patience_seconds`.
        """
        if self._somebody():
            return
        with waiting("scorers", "one that takes requests"):
            if not until(lambda: stopped() or self._somebody(), self._patience, LOOK_SECONDS):
                raise GaveUpError(
                    f"waited {self._patience:g} s for a scorer; see the logs of the scorers, or raise "
                    f"{self._patience_key}"
                )

    def _somebody(self) -> bool:
        with self._lock:
            return bool(self._candidates.rested(self._listed().values(), time.monotonic()))

    def __call__(self, task: Task, texts: Sequence[str], seconds: float) -> list[dict[str, float]]:
        """r of every answer (nats); answers that read alike have equal scores.

        Raises:
            ScorerError: there were no scores within `seconds`.
            BatchError: an answer is longer than the reward model reads.
            ProtocolError: the request is none that a scorer takes.
        """
        body = {"messages": [list(message) for message in task.messages], "texts": list(texts)}
        return [{PART: float(score)} for score in self.ask("score", body, {}, len(texts), seconds)]

    def ask(
        self, kind: str, body: Mapping[str, object], arrays: Mapping[str, Array], count: int, seconds: float
    ) -> Array:
        """What some scorer answers to a request, see `actors.roles.scorer.messages`: scores, float32 [count].

        Raises:
            ScorerError, BatchError, ProtocolError: as a call.
        """
        deadline, failure = time.monotonic() + seconds, "none is there"
        while (left := deadline - time.monotonic()) > TRAVEL_SECONDS:
            if (chosen := self._take()) is None:
                with waiting("scorers", "one that takes requests"):
                    time.sleep(min(LOOK_SECONDS, left))
                continue
            address, another = chosen
            share = left / 2 if another else left
            try:
                return self._asked(address, Question(kind, body, arrays, count), min(share, MAX_WAIT_SECONDS))
            except (PeerTimeoutError, ScorerError) as error:
                failure = str(error)
                self._seldom.warning("%s; %s", failure, "another is asked" if another else "it is asked again")
        raise ScorerError(
            f"no scorer gave scores within {seconds:.1f} s ({failure}); raise scorers.count or "
            "verifiers.deadline_seconds"
        )

    def _take(self) -> tuple[str, bool] | None:
        listed = set(self._listed().values())
        with self._lock:
            self._candidates.forget_all_but(listed)
            gone = [client for address in self._idle.keys() - listed for client in self._idle.pop(address)]
            chosen = self._candidates.take(sorted(listed), time.monotonic())
        for client in gone:
            client.close()
        return chosen

    def _asked(self, address: str, asked: Question, seconds: float) -> Array:
        """What one scorer says. Raises ScorerError or PeerTimeoutError where another may do better."""
        begun, status = time.monotonic(), "failed"
        client = self._connection(address)
        answered: Client | None = None
        try:
            wait = max(seconds - TRAVEL_SECONDS, TRAVEL_SECONDS)
            reply = client.request(asked.kind, asked.body, asked.arrays, wait, deadline_seconds=TRAVEL_SECONDS)
            answered = client
            scores = _read(reply, address, asked.scores)
            status = "scored"
            return scores
        except (BatchError, ProtocolError):
            status = "refused"
            raise
        finally:
            metrics.SCORED.labels(status).observe(time.monotonic() - begun)
            self._give_back(address, answered, failed=status == "failed")
            if answered is None:
                client.close()

    def _connection(self, address: str) -> Client:
        with self._lock:
            idle = self._idle.get(address)
            if idle:
                return idle.pop()
        return Client(ScorerLine(address), self._name, "verifier", once=True, peer="scorer")

    def _give_back(self, address: str, client: Client | None, *, failed: bool) -> None:
        with self._lock:
            self._candidates.ended(address, time.monotonic(), failed=failed)
            if client is not None and not self._closed:
                self._idle.setdefault(address, []).append(client)
                return
        if client is not None:
            client.close()

    def close(self) -> None:
        """Close what is idle; what is under way closes its own connection."""
        with self._lock:
            self._closed = True
            idle = [client for clients in self._idle.values() for client in clients]
            self._idle.clear()
        for client in idle:
            client.close()


def _read(reply: Message, address: str, count: int) -> Array:
    """The scores in an answer. Raises BatchError where no scorer would give any, ScorerError where another may."""
    outcome, detail = reply.body.get("outcome"), str(reply.body.get("detail"))
    if outcome == "refused":
        raise BatchError(detail)
    if outcome != "scored":
        raise ScorerError(f"the scorer at {address} gave no scores: {detail or outcome}")
    try:
        return scores_in(reply.arrays, count)
    except ValueError as error:
        raise ScorerError(f"the scorer at {address}: {error}") from error
