"""Errors of the learner. Each message says what was wrong, where, and what to do next.

LearnerError          everything that the learner raises on purpose
├── BatchError        groups, examples or pairs that cannot be trained on or scored
├── ModelError        a model folder, or what the configuration asks of it      (exit code 2)
├── CheckpointError   a checkpoint that cannot be written or read
├── SnapshotError     a copy of the weights that does not come to an end
└── NonFiniteError    losses or gradients that stopped being numbers
"""

from __future__ import annotations

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
    """A checkpoint folder is missing, incomplete, or belongs to another run."""


class SnapshotError(LearnerError):
    """The weights could not be copied to host memory in time."""


class NonFiniteError(LearnerError):
    """Too many steps in a row had a non-finite loss or gradient; the batch was saved for inspection."""
