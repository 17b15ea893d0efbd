"""Errors of the learner. Each message says what was wrong, where, and what to do next."""

from __future__ import annotations


class LearnerError(Exception):
    """Base class: everything the learner raises on purpose."""


class BatchError(LearnerError):
    """A batch does not fit its documented shapes, dtypes or ranges."""


class ModelError(LearnerError):
    """A model folder cannot be loaded, or the architecture cannot be trained on packed sequences."""


class CheckpointError(LearnerError):
    """A checkpoint folder is missing, incomplete, or belongs to another run."""


class NonFiniteError(LearnerError):
    """Too many steps in a row had a non-finite loss or gradient; the batch was saved for inspection."""
