"""Errors of the learner. Each message says what was wrong, where, and what to do next.

LearnerError          everything that the learner raises on purpose
├── BatchError        groups, examples or pairs that cannot be trained on or scored
├── ModelError        a model folder, or what the configuration asks of it      (exit code 2)
├── CheckpointError   a checkpoint that cannot be written or read
│   └── DamagedCheckpointError
├── SnapshotError     a copy of the weights that does not come to an end
└── NonFiniteError    losses or gradients that stopped being numbers
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class LearnerError(Exception):
    """Base class: everything that the learner raises on purpose.

    Attributes:
        exit_code: of a command that this error ends: 2 where the user's input is wrong, else 1.
    """

    exit_code: ClassVar[int] = 1


class BatchError(LearnerError):
    """A batch does not fit its documented shapes, dtypes or ranges."""


class ModelError(LearnerError):
    """A model folder cannot be loaded, or the architecture cannot be trained on packed sequences."""

    exit_code: ClassVar[int] = 2


class CheckpointError(LearnerError):
    """A checkpoint cannot be written, or belongs to another run."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint folder is missing, or files in it are, or are too short, or hold other bytes than were written.

    Attributes:
        what: what is wrong with which file, without the folder.
    """

    def __init__(self, folder: Path, what: str) -> None:
        advice = "`leeway run --resume` sets it aside and resumes from the one before"
        super().__init__(f"{folder} is not a checkpoint, or is damaged: {what}; {advice}")
        self.what = what


class SnapshotError(LearnerError):
    """The weights could not be copied to host memory in time."""


class NonFiniteError(LearnerError):
    """Too many steps in a row had a non-finite loss or gradient; the batch was saved for inspection."""
