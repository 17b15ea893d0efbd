"""What is kept of a run: every event stamped, in the run's files, and in order for whoever displays it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from actors.events import EVENT, Event, stamped
from actors.observability import metrics
from actors.report.recorder import RunRecorder
from actors.report.state import RunState

log = logging.getLogger(__name__)

#: A display that falls this many events behind has lost the oldest ones; the run's files have all of them.
EVENTS_KEPT = 20_000


class Recording:
    """Events in the order in which they came, with the time since the run's start."""

    def __init__(self, recorder: RunRecorder, clock: Callable[[], float] = time.monotonic) -> None:
        self._recorder, self._clock = recorder, clock
        self._origin = clock() - recorder.state.seconds
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._count = 0
        self._lock = threading.Lock()
        self._broken = False

    @property
    def state(self) -> RunState:
        return self._recorder.state

    def add(self, event: Event) -> None:
        """Stamp an event and record it."""
        event = stamped(event, self._clock() - self._origin)
        self._written(lambda: self._recorder.record(event))
        told = event.model_dump(mode="json")
        with self._lock:
            self._events.append(told)
            self._count += 1

    def add_received(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Record events that another process sent; one that is malformed is counted and logged, and ends nothing."""
        for fields in events:
            try:
                event = EVENT.validate_python(fields)
            except ValidationError as error:
                metrics.MALFORMED_EVENTS.inc()
                log.warning("left out a malformed event: %s", error.errors(include_url=False)[0]["msg"])
                continue
            self.add(event)

    def after(self, count: int) -> tuple[list[dict[str, Any]], int]:
        """The events after the first `count`, in their JSON form, and how many there are by now; from any thread."""
        with self._lock:
            events, total = list(self._events), self._count
        wanted = min(len(events), max(0, total - count))
        return events[len(events) - wanted :], total

    def close(self) -> None:
        self._written(self._recorder.close)

    def _written(self, write: Callable[[], object]) -> None:
        """A disk that is full costs lines of the record, and not the run: its learner may still save, or find room."""
        try:
            write()
        except OSError as error:
            if not self._broken:
                log.error("the run's record cannot be written (%s), and has a gap; make room", error)
            self._broken = True
        else:
            self._broken = False
