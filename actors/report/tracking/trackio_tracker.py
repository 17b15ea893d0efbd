"""Trackio: a run of the project `leeway`, at TRACKIO_DIR, or else in the run folder's `trackio/`."""

import os
from pathlib import Path
from typing import Any

from actors.report.trackers import Scalars

PROJECT = "leeway"


class TrackioTracker:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, scalars: Scalars) -> None:
        """It has one axis, which is a step or a second as in TensorBoard."""
        self._run.log(dict(scalars.values), step=scalars.number)

    def close(self) -> None:
        """Send what is pending."""
        self._run.finish()


def begin(folder: Path) -> TrackioTracker:
    """A run that resumes goes on under its name."""
    os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))  # read when it is imported
    import trackio

    alone = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}  # the run's numbers, and not the machine's
    return TrackioTracker(trackio.init(project=PROJECT, name=folder.name, resume="allow", **alone))
