"""What is kept of a run: every event stamped, in the run's files, and in order for whoever displays it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from actors.config.loading import dump
from actors.config.recipe import Recipe
from actors.events import EVENT, Event, Restart, stamped
from actors.observability import metrics
from actors.report.recorder import RunRecorder
from actors.report.state import RunInfo, RunState

log = logging.getLogger(__name__)

#: A display that falls this many events behind has lost the oldest ones; the run's files have all of them.
EVENTS_KEPT = 20_000


class Recording:
    """Events in the order in which they came, with the time since the run's start.

    Args:
        recorder: keeps them.
        clock: seconds of a monotonic clock.
        away_seconds: time in which nobody has recorded a run that is continued (s).
    """

    def __init__(
        self, recorder: RunRecorder, clock: Callable[[], float] = time.monotonic, away_seconds: float = 0.0
    ) -> None:
        self._recorder, self._clock = recorder, clock
        self._origin = clock() - recorder.state.seconds - away_seconds
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._count = 0
        self._lock = threading.Lock()
        #: The number of the latest event that came from the replay's board.
        self.seen = recorder.last_number
        for event in recorder.earlier:
            self._keep(event)

    @property
    def state(self) -> RunState:
        return self._recorder.state

    @contextmanager
    def reading(self) -> Iterator[RunState]:
        """The state for another thread than the one that records, which changes nothing of it meanwhile; nor of what
        that changes in a `reading` of its own."""
        with self._recorder.lock:
            yield self._recorder.state

    @property
    def seconds(self) -> float:
        """Time since the run's start (s)."""
        return self._clock() - self._origin

    def replaced(self) -> list[float]:
        """How long ago an earlier controller of the run has replaced processes (s), in order."""
        restarts = (e for e in self._recorder.earlier if isinstance(e, Restart) and e.role != "controller")
        return [self.seconds - event.seconds for event in restarts]

    def add(self, event: Event, together: Callable[[], None] = lambda: None) -> None:
        """Stamp an event and record it. What is done `together` with it whoever reads the state sees with it."""
        event = stamped(event, self.seconds)
        with self.reading():
            together()
            self._recorder.fold(event)
        failed = self._recorder.write(event)
        self._keep(event)
        for each in failed:
            self.add(each)

    def add_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.add(event)

    def _keep(self, event: Event) -> None:
        self.seen = max(self.seen, event.number)
        told = event.model_dump(mode="json")
        with self._lock:
            self._events.append(told)
            self._count += 1

    def add_received(self, events: Iterable[Mapping[str, Any]], last: int) -> None:
        """Record events of the replay's board, of which the latest has the number `last`. One that is malformed is
        counted and logged, and ends nothing."""
        for fields in events:
            try:
                event = EVENT.validate_python(fields)
            except ValidationError as error:
                metrics.MALFORMED_EVENTS.inc()
                log.warning("left out a malformed event: %s", error.errors(include_url=False)[0]["msg"])
                continue
            self.add(event)
        self.seen = max(self.seen, last)

    def after(self, count: int) -> tuple[list[dict[str, Any]], int]:
        """The events after the first `count`, in their JSON form, and how many there are by now; from any thread."""
        with self._lock:
            events, total = list(self._events), self._count
        wanted = min(len(events), max(0, total - count))
        return events[len(events) - wanted :], total

    def close(self) -> None:
        self._recorder.close()


def run_info(recipe: Recipe, folder: Path) -> RunInfo:
    """What displays and reports know of a run before it starts."""
    return RunInfo(
        recipe=recipe.name,
        seed=recipe.seed,
        folder=folder,
        total_steps=recipe.steps,
        max_staleness=recipe.replay.max_staleness,
        groups_per_batch=recipe.replay.groups_per_batch,
        configuration=dump(recipe),
        trackers=tuple(recipe.trackers),
    )
