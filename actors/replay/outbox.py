"""Answers that leave once what they say is durable.

A tick of the service takes requests and collects their answers; then the journal writes what they have changed, in one
transaction; then the answers leave. Where it cannot be written the answers stay, the transaction is tried again each
tick, and until then the service refuses whatever would change anything: nobody was told what could be lost.
"""

import logging
import math
from collections.abc import Callable

from actors.errors import JournalBlockedError
from actors.events import JOURNAL, WriteFailed
from actors.observability import metrics
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.changes import Changes
from actors.replay.journal import Journal
from actors.replay.kept import KeptFiles
from actors.transport.codec import Message

log = logging.getLogger(__name__)

#: A transaction that could not be written is tried again after so long (s).
RETRY_SECONDS = 0.25
#: A transaction that takes longer is told to whoever watches the run (s).
SLOW_SECONDS = 5.0
#: The disk counts as slow until so long after the last such transaction (s).
CALM_SECONDS = 30.0


class Outbox:
    """Not for several threads.

    Args:
        send: lets an answer leave.
        buffer, board: whose changes are made durable.
        journal: where; None: answers leave at the end of a tick, and nothing is.
        clock: seconds of a monotonic clock.
        kept: where completions of evaluations go; None: nowhere.

    Attributes:
        blocked: why nothing can be written now; empty where all is well.
    """

    def __init__(
        self,
        send: Callable[[bytes, Message], None],
        buffer: Buffer,
        board: Board,
        journal: Journal | None,
        clock: Callable[[], float],
        kept: KeptFiles | None = None,
    ) -> None:
        self.blocked = ""
        self._kept = kept
        self._send, self._buffer, self._board, self._journal, self._clock = send, buffer, board, journal, clock
        self._answers: list[tuple[bytes, Message]] = []
        self._changes, self._events = Changes(), board.take_unwritten()
        self._since: float | None = None
        self._tried = -math.inf
        self._slow_since: float | None = None

    def add(self, identity: bytes, message: Message) -> None:
        """Answer, at the end of the tick; at once while nothing can change."""
        if self.blocked:
            self._send(identity, message)
        else:
            self._answers.append((identity, message))

    def flush(self) -> None:
        """The end of a tick.

        Raises:
            JournalError: the journal is damaged.
        """
        if self.blocked:
            if self._clock() - self._tried < RETRY_SECONDS:
                return
        else:
            self._changes, self._events = self._buffer.state.take_changes(), self._board.take_unwritten()
        due = self._journal is not None and self._journal.due
        if self._changes or self._events or due:
            if not self._written():
                return
            self._changes, self._events = Changes(), []
        answers, self._answers = self._answers, []
        for identity, message in answers:
            self._send(identity, message)

    def _written(self) -> bool:
        start = self._tried = self._clock()
        self._since = start if self._since is None else self._since
        try:
            if self._kept is not None:
                self._kept.write(self._changes.kept)
            self._write_journal()
        except JournalBlockedError as error:
            self._block(str(error))
            return False
        finally:
            metrics.JOURNAL_LAG.set(self._clock() - self._since)
        seconds, self._since = self._clock() - start, None
        metrics.JOURNAL_LAG.set(0)
        self._unblock()
        self._judge(seconds)
        return True

    def _write_journal(self) -> None:
        if self._journal is None:
            return
        start, state = self._clock(), self._buffer.state.state
        size = self._journal.write(self._changes, self._events, self._board.first_event, state)
        metrics.JOURNAL_WRITE.observe(self._clock() - start)
        metrics.JOURNAL_BYTES.inc(size)
        metrics.JOURNAL_SIZE.set(self._journal.size())

    def _block(self, reason: str) -> None:
        metrics.JOURNAL_BLOCKED.set(1)
        if not self.blocked:
            log.error("the journal cannot be written, and the run stands still until it can: %s", reason)
            self._board.withhold(self._events, WriteFailed(what=JOURNAL, reason=reason))
        self.blocked = reason

    def _unblock(self) -> None:
        metrics.JOURNAL_BLOCKED.set(0)
        if self.blocked:
            self.blocked = ""
            self._board.release()
            log.info("the journal is written again")
            self._board.record(WriteFailed(what=JOURNAL, reason=""))
            self._buffer.state.begin_leases(self._clock())  # nobody could renew one meanwhile

    def _judge(self, seconds: float) -> None:
        """Tell of a disk that is slow, and that it is slow no more."""
        now = self._clock()
        if seconds > SLOW_SECONDS:
            log.warning("one transaction of the journal took %.1f s", seconds)
            if self._slow_since is None:
                self._board.record(WriteFailed(what=JOURNAL, reason=f"its disk is slow: a write took {seconds:.0f} s"))
            self._slow_since = now
        elif self._slow_since is not None and now - self._slow_since > CALM_SECONDS:
            self._slow_since = None
            self._board.record(WriteFailed(what=JOURNAL, reason=""))
