"""A run's numbers as TensorBoard event files, without torch."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event as EventProto
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from actors.process import Seldom
from actors.report.trackers import Scalars

log = logging.getLogger(__name__)


class TensorBoards:
    """The tracker that every run has, see `actors.report.trackers`: event files for each axis, side by side.

    Pools are charted by second, which must not be mistaken for a step when a resume hides lost steps.

    Args:
        folder: of both.
        resumed_at: step of the checkpoint that the run resumes from; None: it starts.
    """

    def __init__(self, folder: Path, resumed_at: int | None) -> None:
        self._of = {"step": TensorBoard(folder / "training", resumed_at), "second": TensorBoard(folder / "pools")}

    def log(self, scalars: Scalars) -> None:
        """Record them at their step or second."""
        self._of[scalars.axis].scalars(scalars.number, scalars.seconds, scalars.values)

    def close(self) -> None:
        """Flush and end the writers' threads."""
        for writer in self._of.values():
            writer.close()


class TensorBoard:
    """An event file of scalars.

    Args:
        folder: where the file is written.
        resumed_at: step of the checkpoint that the run resumes from: TensorBoard hides what earlier files hold of later
            steps. None: it starts.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        self._folder = str(folder)
        self._writer: EventFileWriter | None = EventFileWriter(self._folder, flush_secs=10)
        self._epoch: float | None = None
        self._gaps = Seldom(log)
        if resumed_at is not None:
            start = SessionLog(status=SessionLog.START)
            self._add(EventProto(step=resumed_at + 1, wall_time=time.time(), session_log=start))

    def scalars(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Record values at one step.

        Args:
            step: optimizer step or, for what has none, the second.
            seconds: time since the run's start (s).
            values: value by tag.
        """
        if self._epoch is None:
            self._epoch = time.time() - seconds
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._add(EventProto(step=step, wall_time=self._epoch + seconds, summary=summary))

    def _add(self, event: EventProto) -> None:
        """What cannot be written is a gap in the curves: the record itself is elsewhere."""
        try:
            if self._writer is None:
                self._writer = EventFileWriter(self._folder, flush_secs=10)
            self._writer.add_event(event)
        except OSError as error:
            self._gaps.warning("the files for TensorBoard have a gap: %s", error)
            self._writer = None  # its thread has ended; what comes next goes into another file

    def close(self) -> None:
        """Flush and end the writer's thread."""
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            self._gaps.warning("the files for TensorBoard have a gap: %s", error)
