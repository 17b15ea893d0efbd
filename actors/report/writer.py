"""The files of a run: what happened goes in line by line, what it amounts to is replaced whole.

| file | content |
|---|---|
| `metrics.jsonl` | one event a line (all but samples; ticks merged to ten seconds) |
| `samples.jsonl` | one rollout a line |
| `tensorboard/` | the same numbers as TensorBoard event files |
| `summary.json` | the outcome, see `actors.report.summary` |
| `report.html` | the report, see `actors.report.page` |
"""

import fcntl
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pydantic import ValidationError

from actors.config.recipe import TrackerName
from actors.errors import RunError
from actors.events import EVENT, SAMPLE, EvaluationDone, Event, RolloutSample, StepDone, Tick, WeightSync, merge_ticks
from actors.report.trackers import Axis, Scalars, Tracker, aside
from learner.files import write_atomically

log = logging.getLogger(__name__)

TICK_SECONDS = 10.0  # a day of ticks is then a few megabytes
#: The lock that whoever carries out a run or a pipeline holds on its folder.
LOCK = "run.lock"
READ_BACK_BYTES = 1 << 20  # of samples.jsonl: enough for the few that the report shows


class RunFolder:
    """The files of one run, open for appending. Not safe for use from several threads."""

    METRICS, SAMPLES, SUMMARY, REPORT, TENSORBOARD = (
        "metrics.jsonl",
        "samples.jsonl",
        "summary.json",
        "report.html",
        "tensorboard",
    )

    def __init__(self, path: Path, resumed_at: int | None = None, trackers: Sequence[TrackerName] = ()) -> None:
        """Create the folder, or continue the one that is there. Of a step that is taken again the later line counts.

        Args:
            path: the run folder.
            resumed_at: step of the checkpoint that the run resumes from; None: it starts.
            trackers: that get the numbers, too.

        Raises:
            RunError: another process writes the folder, or nobody can.
        """
        from actors.report.tensorboard import TensorBoards  # those who only read a run's files lack it

        self.path = path
        self._ticks: list[Tick] = []
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._metrics = LineFile(path / self.METRICS)
            self._samples = LineFile(path / self.SAMPLES)
            self._trackers: list[Tracker] = [TensorBoards(path / self.TENSORBOARD, resumed_at)]
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror}); make room there, or let it be") from error
        self._trackers += aside(trackers, path)

    def write(self, event: Event) -> None:
        """Append one event and hand it to the operating system; ticks once ten seconds are full."""
        if isinstance(event, Tick):
            self._ticks.append(event)
            if sum(tick.interval_seconds for tick in self._ticks) >= TICK_SECONDS:
                self._write_ticks()
            return
        (self._samples if isinstance(event, RolloutSample) else self._metrics).append(event)
        self._chart(event)

    def _write_ticks(self) -> None:
        if self._ticks:
            merged = merge_ticks(self._ticks)
            self._ticks.clear()
            self._metrics.append(merged)
            self._chart(merged)

    def _chart(self, event: Event) -> None:
        values = _scalars(event)
        axis: Axis = "step"
        if isinstance(event, StepDone):
            number = event.step
        elif isinstance(event, EvaluationDone | WeightSync):
            number = event.version
        else:
            axis, number = "second", round(event.seconds)
        for tracker in self._trackers if values else ():
            tracker.log(Scalars(axis, number, event.seconds, values))

    def replace(self, name: str, text: str) -> None:
        """Write a whole file so that a reader sees the old or the new one, never half of it."""
        write_atomically(self.path / name, text)

    def close(self) -> None:
        """Write what is pending and close every file."""
        with ExitStack() as closing:
            for close in (self._metrics.close, self._samples.close, *(tracker.close for tracker in self._trackers)):
                closing.callback(close)
            self._write_ticks()


class LineFile:
    """A file that grows by whole lines, whatever room there is, and has one writer at a time.

    Raises:
        RunError: another process writes the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        try:
            lock(self._file.fileno())
        except BlockingIOError as error:
            self._file.close()
            raise RunError(f"{path} is being written by another process; wait until that run has ended") from error
        # a torn line would swallow the next one
        self._end = _end_of_last_line(path)
        self._file.truncate(self._end)

    def append(self, event: Event) -> None:
        """Hand one line to the operating system. Raises OSError where it is not taken; nothing of it stays then."""
        line = memoryview(event.model_dump_json().encode() + b"\n")
        self._file.truncate(self._end)  # what is left of a line that was not taken
        left = line
        while left:
            left = left[self._file.write(left) :]
        self._end += len(line)

    def close(self) -> None:
        self._file.close()


def lock(descriptor: int) -> None:
    """Keep a file for this process, until it is closed or the process has ended, however it ends.

    Where the storage knows no locks (some network file systems) this does nothing but log that.

    Raises:
        BlockingIOError: another process has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        log.warning("no lock could be had (%s): nothing keeps two processes from one run folder here", error.strerror)


def is_locked(path: Path) -> bool:
    """Whether a process has such a file; nothing is waited for, and False where that cannot be known."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_back(folder: Path) -> list[Event]:
    """What a run wrote before it is resumed: every metric, and the latest samples.

    Raises:
        RunError: if a file is damaged anywhere but in its last line.
    """
    return _read(folder / RunFolder.METRICS) + _read(folder / RunFolder.SAMPLES, READ_BACK_BYTES)


def _end_of_last_line(path: Path) -> int:
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            position = start
    return 0


def _read(path: Path, last_bytes: int | None = None) -> list[Event]:
    """The events of a file, or of its last bytes. A last line without its end was torn by a crash and is skipped."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - last_bytes) if last_bytes else 0
        file.seek(start)
        lines = file.read().split(b"\n")
    lines = lines[1:] if start else lines
    events: list[Event] = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            events.append(EVENT.validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = "one of its last lines" if start else f"line {number}"
            raise RunError(
                f"{path}: {where} is no event of a run ({first['msg']}). "
                "Repair or remove the line, or start a new run folder."
            ) from error
    return events


def _scalars(event: Event) -> dict[str, float]:
    """The numbers of an event by TensorBoard tag."""
    match event:
        case StepDone():
            values = {f"train/{name}": value for name, value in event.statistics.items()}
            tokens = sum(event.staleness.values())
            if tokens:
                ages = event.staleness.items()
                values["staleness/mean"] = sum(age * count for age, count in ages) / tokens
                values["staleness/max"] = max(age for age, count in ages if count)
            return {**values, "train/step_seconds": event.step_seconds}
        case EvaluationDone(name=name) if name != SAMPLE:
            optional = {"held_out/maj_at_k": event.maj_at_k, "held_out/format": event.format}
            optional |= {"held_out/pass_at_k": event.pass_at_k, "held_out/language": event.language}
            optional["held_out/mean_length"] = event.mean_length
            return {"held_out/pass_at_1": event.pass_at_1, **{k: v for k, v in optional.items() if v is not None}}
        case WeightSync():
            fields = ("transfer_seconds", "pause_seconds", "total_seconds")
            return {f"weight_sync/{field}": getattr(event, field) for field in fields}
        case Tick():
            values = {f"busy_share/{role}": share for role, share in event.busy.items()}
            values |= {f"tokens_per_second/{kind}": rate for kind, rate in event.tokens_per_second.items()}
            return values | {f"queue/{name}": depth for name, depth in event.queues.items()}
        case _:
            return {}
