"""Where a run's numbers go beside its own files: one protocol, TensorBoard and trackers of others behind it.

RunFolder ──▶ TensorBoards             files, written at once
          └─▶ Aside ──queue, thread──▶ wandb, mlflow, trackio: may hang, fail, or reach for a network
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol

from actors.config.recipe import TrackerName
from actors.process import Seldom

log = logging.getLogger(__name__)

#: What numbers are drawn over: optimizer steps, or seconds since the run's start.
Axis = Literal["step", "second"]
#: Values that wait for a tracker: a step has one, pools have one each ten seconds.
WAITING = 1000
#: Its time to take the last of them (s): all of a graceful shutdown has `controller.wind_down_seconds`.
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Scalars:
    """Numbers of one moment.

    Attributes:
        axis: what `number` counts.
        number: optimizer step, or second.
        seconds: time since the run's start (s).
        values: by name, such as train/loss.
    """

    axis: Axis
    number: int
    seconds: float
    values: Mapping[str, float]


class Tracker(Protocol):
    """What takes a run's numbers."""

    def log(self, scalars: Scalars) -> None:
        """Record them."""

    def close(self) -> None:
        """Send what is pending."""


class Aside:
    """A tracker in a thread of its own. Whatever it does wrong is a gap in its curves, and costs the run nothing.

    Args:
        name: of the tracker.
        begin: makes it, in that thread.
    """

    def __init__(self, name: str, begin: Callable[[], Tracker]) -> None:
        self._name, self._begin = name, begin
        self._gaps = Seldom(log, 600.0)
        self._values: queue.Queue[Scalars | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def log(self, scalars: Scalars) -> None:
        """Hand numbers on; returns at once, and leaves them out where the tracker is too slow."""
        try:
            self._values.put_nowait(scalars)
        except queue.Full:
            self._gaps.warning("%s has a gap: it takes nothing", self._name)

    def close(self) -> None:
        """Give it a last while."""
        due = time.monotonic() + CLOSE_SECONDS
        with suppress(queue.Full):
            self._values.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(max(0.0, due - time.monotonic()))
        if self._thread.is_alive():
            log.warning(
                "%s was left behind, without its last values: it took more than %g s to end; metrics.jsonl has them",
                self._name,
                CLOSE_SECONDS,
            )

    def _run(self) -> None:
        tracker = None
        while (taken := self._values.get()) is not None:
            try:
                tracker = tracker or self._begin()
                tracker.log(taken)
            except Exception as error:  # noqa: BLE001 - libraries of others may raise anything, and cost a gap alone
                self._say(error)
        try:
            if tracker is not None:
                tracker.close()
        except Exception as error:  # noqa: BLE001 - the same
            self._say(error)

    def _say(self, error: Exception) -> None:
        # its text may hold a key, or an address with a password in it
        self._gaps.warning("%s has a gap: %s", self._name, type(error).__name__)


def aside(names: Sequence[TrackerName], folder: Path) -> list[Tracker]:
    """The trackers of others that a run names, each under the run folder's name."""
    return [Aside(name, partial(_begun, name, folder)) for name in names]


def _begun(name: TrackerName, folder: Path) -> Tracker:
    adapter: Callable[[Path], Tracker] = import_module(f"actors.report.tracking.{name}_tracker").begin
    return adapter(folder)
