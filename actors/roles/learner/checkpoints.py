"""A run's checkpoints on their way: begun, durable, committed."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from actors.observability import metrics
from actors.observability.waits import waiting
from learner import CheckpointError
from learner.checkpoint import WRITE_TIMEOUT_SECONDS
from learner.extra import checkpoint_name

log = logging.getLogger(__name__)


class Checkpoints:
    """One that cannot be written ends nothing as long as there is another to come; `failure` is for the last one.

    Args:
        save: begins to write the checkpoint of a version; the future, or the call itself, raises CheckpointError.
        committed: is told of every version whose checkpoint is durable.
        failed: is told why one could not be written; nothing, once one is written again.
        durable: the version that the run resumes from.

    Attributes:
        durable: the newest version whose checkpoint is durable.
        failure: why the latest one is not.
    """

    def __init__(
        self,
        save: Callable[[int], Future[None]],
        committed: Callable[[int], None],
        failed: Callable[[str], None],
        durable: int | None = None,
    ) -> None:
        self.durable = durable
        self.failure: CheckpointError | None = None
        self._save, self._committed, self._failed = save, committed, failed
        self._saving: deque[tuple[int, Future[None]]] = deque()

    def begin(self, version: int) -> None:
        """Begin to write one; only copying the state holds the caller up."""
        start = time.monotonic()
        try:
            saved = self._save(version)
            saved.add_done_callback(partial(_written, start))
        except CheckpointError as error:
            saved = Future()
            saved.set_exception(error)  # so that it is settled in its turn
        self._saving.append((version, saved))

    def settle(self, wait: bool = False) -> None:
        """Commit what has become durable meanwhile, or, with `wait`, everything that was begun."""
        while self._saving and (wait or self._saving[0][1].done()):
            version, saved = self._saving.popleft()
            try:
                with waiting(f"the checkpoint of step {version}", "to be durable", counted_as="checkpoint"):
                    saved.result(WRITE_TIMEOUT_SECONDS)
            except CheckpointError as error:
                self._fail(error)
                continue
            except TimeoutError:
                late = f"it is still being written after {WRITE_TIMEOUT_SECONDS:g} s"
                self._fail(CheckpointError(f"could not write checkpoint {checkpoint_name(version)}: {late}"))
                continue
            self.durable = version
            metrics.CHECKPOINT_VERSION.set(version)
            if self.failure is not None:
                self.failure = None
                self._failed("")
            self._committed(version)

    def _fail(self, error: CheckpointError) -> None:
        log.error("%s", error)
        self.failure = error
        metrics.CHECKPOINT_FAILURES.inc()
        self._failed(str(error).removeprefix("could not write checkpoint "))


def _written(start: float, saved: Future[None]) -> None:
    """Measured when it is written, and not when the learner comes to look."""
    if not saved.cancelled() and saved.exception() is None:
        metrics.CHECKPOINTS.inc()
        metrics.CHECKPOINT.observe(time.monotonic() - start)
