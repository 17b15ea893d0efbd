"""The one object a controller talks to: it takes events and keeps state and files up to date."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Self

from actors.events import Event, Phase, WriteFailed
from actors.report.page import render
from actors.report.state import RunInfo, RunState
from actors.report.summary import summarise, to_json
from actors.report.writer import RunFolder, read_back

log = logging.getLogger(__name__)

#: The first event of a run, and of each that resumes it.
BEGINNING = Phase(name="starting", detail="preparing the model")
#: From here on nobody is expected to work.
ENDING = Phase(name="ending", detail="the processes are being stopped")
PUBLISH_SECONDS = 30.0  # how old summary.json and report.html of a running or killed run can be


def reopened(info: RunInfo, resumed_at: int | None) -> RunState:
    """The state that a run resumes with.

    Args:
        info: what is known about the run before it starts.
        resumed_at: step of the checkpoint that it resumes from; None: it starts, and its state is fresh.

    Raises:
        RunError: if the run folder's files are damaged anywhere but in their last line.
    """
    return _resumed(info, resumed_at, [] if resumed_at is None else read_back(info.folder))


def _resumed(info: RunInfo, resumed_at: int | None, events: list[Event]) -> RunState:
    """The state at the checkpoint's step of a run that has ended since; with neither step nor events, that of a new
    one."""
    state = RunState(info)
    for event in events:
        state.fold(event)
    if resumed_at is not None:
        state.resumed(resumed_at)
    return state


def _continued(info: RunInfo, resumed_at: int | None, events: list[Event]) -> RunState:
    """The state of a run that is alive, from what is on record."""
    began = max((number for number, event in enumerate(events) if _begins(event)), default=0)
    state = RunState(info)
    for number, event in enumerate(events):
        if number == began and resumed_at is not None:
            state.resumed(resumed_at)
        state.fold(event)
    return state


def _begins(event: Event) -> bool:
    return isinstance(event, Phase) and (event.name, event.detail) == (BEGINNING.name, BEGINNING.detail)


class RunRecorder:
    """Folds events into `state` and writes the run folder. Use as a context manager; one thread alone records, and
    others read the state while they hold `lock`.

    A run that resumes reads its own files back first: `state` then is as it was at the checkpoint's step, and new
    events count their seconds from `state.seconds` on.

    Args:
        info: what is known about the run before it starts.
        resumed_at: step of the checkpoint that the run resumes from; None: it starts.
        continued: the run is alive, and another process has written its record until now.

    Attributes:
        state: of the run, after all events so far.
        lock: is held while an event changes the state, and not while the files are written.
        earlier: what the other process has recorded, where it is continued.
        last_number: of the latest event of the replay's board that is on record.

    Raises:
        RunError: if the run folder's files are damaged anywhere but in their last line.
    """

    def __init__(self, info: RunInfo, resumed_at: int | None = None, continued: bool = False) -> None:
        on_record = read_back(info.folder) if continued or resumed_at is not None else []
        self.last_number = max((event.number for event in on_record), default=0)
        self.earlier = sorted(on_record, key=lambda event: event.seconds) if continued else []
        self.state = _continued(info, resumed_at, self.earlier) if continued else _resumed(info, resumed_at, on_record)
        self.lock = threading.RLock()
        self._folder = RunFolder(info.folder, resumed_at, info.trackers)
        self._published: float | None = None
        self._failed: set[str] = set()

    def record(self, event: Event) -> list[WriteFailed]:
        """`fold` and `write`."""
        self.fold(event)
        return self.write(event)

    def fold(self, event: Event) -> None:
        """Take in one event."""
        with self.lock:
            self.state.fold(event)

    def write(self, event: Event) -> list[WriteFailed]:
        """Write an event that was taken in; every 30 s of the run's time, summary and report are written anew.

        A disk that is full ends no run: what cannot be written is missing in the record.

        Returns:
            An event for everything that cannot be written and could before, which the caller records too.
        """
        steps = [("the record of the run", lambda: self._folder.write(event))]
        if self._published is None or event.seconds - self._published >= PUBLISH_SECONDS:
            steps.append(("the report", self.publish))
        return [failed for what, step in steps for failed in self._attempt(what, step)]

    def _attempt(self, what: str, step: Callable[[], object]) -> Iterator[WriteFailed]:
        """Take a step; where it fails for the first time, the event that says so."""
        try:
            step()
        except OSError as error:
            log.warning("could not write %s: %s", what, error)
            if what not in self._failed:
                self._failed.add(what)
                yield WriteFailed(seconds=self.state.seconds, what=what, reason=error.strerror or str(error))

    def publish(self) -> None:
        """Write `summary.json` and `report.html` as of now."""
        self._published = self.state.seconds
        self._folder.replace(RunFolder.SUMMARY, to_json(summarise(self.state)))
        self._folder.replace(RunFolder.REPORT, render(self.state))

    def close(self) -> None:
        """Publish a last time and close the files."""
        for _ in (*self._attempt("the report", self.publish), *self._attempt("the record", self._folder.close)):
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
