"""Weights & Biases: a run of the project `leeway`, or of WANDB_PROJECT; without a key it is kept in the run folder."""

import os
from pathlib import Path
from typing import Any

from actors.report.trackers import Scalars

PROJECT = "leeway"
#: Names that begin so are drawn over seconds, all others over steps.
BY_SECOND = ("busy_share/*", "tokens_per_second/*", "queue/*")


class WandbTracker:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, scalars: Scalars) -> None:
        """Its own step only grows, and a resumed run takes steps again: ours is an axis."""
        self._run.log({**scalars.values, scalars.axis: scalars.number})

    def close(self) -> None:
        """Send what is pending."""
        self._run.finish()


def begin(folder: Path) -> WandbTracker:
    """A run that resumes goes on under its name."""
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=folder.name,
        name=folder.name,
        dir=str(folder),
        resume="allow",
        mode=os.environ.get("WANDB_MODE", "online" if "WANDB_API_KEY" in os.environ else "offline"),
        settings=wandb.Settings(console="off", disable_git=True, disable_code=True, silent=True),
    )
    run.define_metric("*", step_metric="step")
    for name in BY_SECOND:
        run.define_metric(name, step_metric="second")
    return WandbTracker(run)
