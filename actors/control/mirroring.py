"""The mirror of a run that goes on: kept up to date in the background, so that a storage that fails ends nothing.

The newest checkpoint is sent; those that came while one was on its way, and are not the newest any more, are passed
over. What cannot be sent is told once, tried again at every look, and stays on the run's own disk until then.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from actors.config.storage import StorageConfig
from actors.deadline import until
from actors.errors import LeewayError, StorageError
from actors.events import MIRROR, WriteFailed
from actors.observability import metrics
from actors.storage.mirror import Mirror, mirror_of
from actors.storage.uris import Uri
from learner.extra import CHECKPOINTS, newest_whole

log = logging.getLogger(__name__)

#: Between two attempts where somebody waits for the mirror (s); each of them is patient by itself.
RETRY_SECONDS = 1.0


class Mirroring:
    """Without a mirror it does nothing.

    Args:
        config: where the mirror is, and how it is kept.
        folder: the run folder.
        stopped: whether the run was told to stop, so that nobody waits for the mirror any longer.
    """

    def __init__(self, config: StorageConfig, folder: Path, stopped: Callable[[], bool]) -> None:
        self._config, self._folder, self._stopped = config, folder, stopped
        self._sent: dict[str, object] = {}
        self._news: deque[WriteFailed] = deque()
        self._failure = ""
        self._asked = self._looked = 0
        self._wake, self._closed = threading.Event(), False
        if config.mirror is not None:
            threading.Thread(target=self._run, args=(config.mirror,), name="mirror", daemon=True).start()

    def news(self) -> list[WriteFailed]:
        """What the record of the run must say since the last call."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def settle(self, finished: bool, seconds: float) -> None:
        """Wait until all that the run folder holds by now is mirrored.

        Args:
            finished: whether the run has reached its end: it waits as long as `storage` says. Any other only logs
                what is left out.
            seconds: longest wait for any other (s).

        Raises:
            StorageError: of a run that has finished not everything is mirrored.
        """
        if self._config.mirror is None:
            return
        self._asked += 1
        asked = self._asked
        self._wake.set()
        seconds, stopped = (self._config.finish_seconds, self._stopped) if finished else (seconds, lambda: False)
        until(lambda: self._looked >= asked or stopped(), seconds, 0.05)
        if self._looked >= asked:
            return
        what = self._failure or "it was still on its way"
        error = StorageError(f"not everything is mirrored ({what}); {self._folder} has all of it")
        if finished:
            raise error
        log.warning("%s", error)

    def close(self) -> None:
        """End, after what is on its way; nothing is waited for, see `settle`."""
        self._closed = True
        self._wake.set()

    def _run(self, place: Path | Uri) -> None:
        mirror: Mirror | None = None
        while not self._closed:
            asked = self._asked
            try:
                mirror = mirror or Mirror(mirror_of(place, self._folder.name))
                self._look(mirror)
            except (LeewayError, OSError, ValueError) as error:
                self._told(str(error))
            else:
                self._told("")
                self._looked = asked
            self._wake.wait(self._pause_seconds)
            self._wake.clear()

    @property
    def _pause_seconds(self) -> float:
        if self._asked <= self._looked:
            return self._config.interval_seconds
        return RETRY_SECONDS if self._failure else 0.0  # somebody waits for it

    def _look(self, mirror: Mirror) -> None:
        mirror.put_record(self._folder)
        self._send_model(mirror, "reward-model")
        if (newest := newest_whole(self._folder / CHECKPOINTS)) is not None:
            step, path = newest
            if self._sent.get(CHECKPOINTS) != (state := path.stat().st_ino):
                mirror.put_checkpoint(path, self._config.keep_last)
                self._sent[CHECKPOINTS] = state
                metrics.MIRRORED_VERSION.set(step)
        self._send_model(mirror, "model")

    def _send_model(self, mirror: Mirror, name: str) -> None:
        folder = self._folder / name  # renamed into its place, so that it is whole, and another one is another inode
        if folder.is_dir() and self._sent.get(name) != (state := folder.stat().st_ino):
            mirror.put_folder(folder, name)
            self._sent[name] = state

    def _told(self, reason: str) -> None:
        if reason:
            log.warning("%s: %s", MIRROR, reason)
            metrics.MIRROR_FAILURES.inc()
        if bool(reason) != bool(self._failure):
            self._news.append(WriteFailed(what=MIRROR, reason=reason))
        self._failure = reason
