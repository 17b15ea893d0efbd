"""The one object a controller talks to: it takes events and keeps state and files up to date."""

from typing import Self

from actors.events import Event
from actors.report.html import render
from actors.report.state import RunInfo, RunState
from actors.report.summary import RunSummary, summarise, to_json
from actors.report.writer import RunFolder, read_back

PUBLISH_SECONDS = 30.0  # how old summary.json and report.html of a running or killed run can be


def reopened(info: RunInfo, resumed_at: int | None) -> RunState:
    """The state that a run resumes with.

    Args:
        info: what is known about the run before it starts.
        resumed_at: step of the checkpoint that it resumes from; None: it starts, and its state is fresh.

    Raises:
        RunError: if the run folder's files are damaged anywhere but in their last line.
    """
    state = RunState(info)
    if resumed_at is not None:
        for event in read_back(info.folder):
            state.fold(event)
        state.resume(resumed_at)
    return state


class RunRecorder:
    """Folds events into `state` and writes the run folder. Use as a context manager; not for several threads.

    A run that resumes reads its own files back first: `state` then is as it was at the checkpoint's step, and new
    events count their seconds from `state.seconds` on.

    Args:
        info: what is known about the run before it starts.
        resumed_at: step of the checkpoint that the run resumes from; None: it starts.

    Raises:
        RunError: if the run folder's files are damaged anywhere but in their last line.
    """

    def __init__(self, info: RunInfo, resumed_at: int | None = None) -> None:
        self.state = reopened(info, resumed_at)
        self._folder = RunFolder(info.folder, resumed_at)
        self._published: float | None = None

    def record(self, event: Event) -> None:
        """Take in one event; every 30 s of the run's time, summary and report are written anew."""
        self.state.fold(event)
        self._folder.write(event)
        if self._published is None or event.seconds - self._published >= PUBLISH_SECONDS:
            self.publish()

    def publish(self) -> RunSummary:
        """Write `summary.json` and `report.html` as of now."""
        summary = summarise(self.state)
        self._folder.replace(RunFolder.SUMMARY, to_json(summary))
        self._folder.replace(RunFolder.REPORT, render(self.state))
        self._published = self.state.seconds
        return summary

    def close(self) -> None:
        """Publish a last time and close the files."""
        try:
            self.publish()
        finally:
            self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
