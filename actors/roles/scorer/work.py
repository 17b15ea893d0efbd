"""What a scorer does beside its socket: a thread that reads requests as its model does, batches, scores and answers.

The socket has another thread, so that a request is taken when it comes, however long a batch takes: from then on its
time counts, and what nobody waits for any more is not begun.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from actors.errors import LeewayError, RunError
from actors.observability import metrics
from actors.roles.scorer.batching import AskedScores, EncodedGroup, ScoringQueue
from actors.roles.scorer.messages import Outcome, ScoreRequest, answer
from actors.transport.codec import Array, Message
from learner.errors import BatchError

log = logging.getLogger(__name__)

#: How often the thread looks whether to end, while nobody asks (s).
WATCH_SECONDS = 0.5
#: After so many groups in a row of which none could be scored the process is at fault, and another takes its place.
MOST_FAILURES = 5


class ScoringModel(Protocol):
    """The part of `ServedModel` and `ServedTeacher` that is needed here."""

    def read(self, request: ScoreRequest, arrays: Mapping[str, Array], /) -> EncodedGroup: ...

    def score(self, groups: Sequence[EncodedGroup]) -> list[Array]: ...


@dataclass(frozen=True, slots=True, eq=False)
class UnreadRequest:
    """A request as it came, and what travelled beside it; `identity`, `number` and `due` as of `AskedScores`."""

    identity: bytes
    number: int
    due: float
    request: ScoreRequest
    arrays: Mapping[str, Array]


class ScoringWork:
    """See the module's docstring. `ask` and `take_answers` are for one other thread.

    Args:
        model: what scores; only the thread of this object uses it.
        most_tokens: of a batch.
    """

    def __init__(self, model: ScoringModel, most_tokens: int) -> None:
        self._model, self._queue = model, ScoringQueue(most_tokens)
        self._unread: deque[UnreadRequest] = deque()
        self._answers: deque[tuple[bytes, Message]] = deque()
        self._changed = threading.Condition()
        self._open = 0
        self._failures = 0
        self._ending = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def ask(self, identity: bytes, number: int, due: float, request: ScoreRequest, arrays: Mapping[str, Array]) -> None:
        """Score a request, unless that takes until `due` (s of time.monotonic)."""
        with self._changed:
            self._open += 1
            self._unread.append(UnreadRequest(identity, number, due, request, arrays))
            self._changed.notify()

    def take_answers(self) -> list[tuple[bytes, Message]]:
        """Whom to answer what, since the last call.

        Raises:
            RunError: the model cannot score any more, or the thread has died.
        """
        if self._failure is not None and not self._answers:
            if isinstance(self._failure, RunError):
                raise self._failure
            raise RunError(f"the thread that scores has died: {self._failure}") from self._failure
        with self._changed:
            taken = list(self._answers)
            self._answers.clear()
            self._open -= len(taken)
        return taken

    @property
    def open(self) -> int:
        """Requests that were not answered yet."""
        return self._open

    def close(self, seconds: float) -> None:
        """End the thread; a batch that takes longer than `seconds` ends with the process."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(seconds)

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            while not self._ending:
                if not self._queue:
                    self._wait()
                with metrics.busy("scorer"):
                    self._read()
                    for late in self._queue.take_late(time.monotonic()):
                        self._say_late(late.identity, late.number)
                    batch = self._queue.take()
                    metrics.SCORER_WAITING.set(len(self._queue))
                    if batch:
                        self._score(batch)
        except BaseException as error:
            log.exception("the thread that scores ends")
            self._failure = error

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ending or bool(self._unread), WATCH_SECONDS)

    def _read(self) -> None:
        """Read what has come, as the model does."""
        while True:
            with self._changed:
                if not self._unread:
                    return
                unread = self._unread.popleft()
            if unread.due <= time.monotonic():
                self._say_late(unread.identity, unread.number)
            elif (group := self._encoded(unread)) is not None:
                self._queue.add(AskedScores(unread.identity, unread.number, unread.due, group))

    def _encoded(self, unread: UnreadRequest) -> EncodedGroup | None:
        try:
            return self._model.read(unread.request, unread.arrays)
        except (BatchError, LeewayError) as error:  # it would be the same elsewhere
            self._answer(unread.identity, unread.number, "refused", str(error))
        except Exception as error:
            log.exception("answers of %s could not be read", unread.request.worker)
            self._answer(unread.identity, unread.number, "failed", f"{type(error).__name__}: {error}")
        return None

    def _score(self, batch: Sequence[AskedScores]) -> None:
        """Answer a batch. What breaks it is looked for group by group, so that one costs the others nothing."""
        start = time.monotonic()
        try:
            scores = self._model.score([asked.group for asked in batch])
        except Exception as error:
            log.exception("%d groups could not be scored together", len(batch))
            if len(batch) > 1:
                for asked in batch:
                    self._score([asked])
                return
            self._answer(batch[0].identity, batch[0].number, "failed", f"{type(error).__name__}: {error}")
            self._failed(error)
            return
        self._failures = 0
        metrics.SCORING.observe(time.monotonic() - start)
        metrics.SCORING_GROUPS.observe(len(batch))
        metrics.SCORED_TOKENS.inc(sum(asked.group.size for asked in batch))
        for asked, own in zip(batch, scores, strict=True):
            self._answer(asked.identity, asked.number, "scored", scores=own)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            raise RunError(
                f"the model could not score {self._failures} groups in a row, the last one with "
                f"{type(error).__name__}: {error}"
            ) from error

    def _say_late(self, identity: bytes, number: int) -> None:
        self._answer(identity, number, "late", "nobody waits for it any more")

    def _answer(
        self, identity: bytes, number: int, outcome: Outcome, detail: str = "", scores: Array | None = None
    ) -> None:
        metrics.SCORER_ANSWERS.labels(outcome).inc()
        arrays = {} if scores is None else {"scores": scores}
        with self._changed:
            self._answers.append((identity, Message("reply", number, answer(outcome, detail), arrays)))
