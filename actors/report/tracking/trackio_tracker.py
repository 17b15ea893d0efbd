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
        """Its own step counts calls; ours is one of the values, over which it draws."""
        self._run.log({**scalars.values, scalars.axis: scalars.number})

    def close(self) -> None:
        """Send what is pending."""
        self._run.finish()


def begin(folder: Path) -> TrackioTracker:
    """A run that resumes goes on under its name."""
    os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))  # read when it is imported
    import trackio

    return TrackioTracker(trackio.init(project=PROJECT, name=folder.name, resume="allow", embed=False))
