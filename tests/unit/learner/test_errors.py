"""Errors of the learner: one root, and an exit code that says whether the user can mend the input."""

from __future__ import annotations

import pytest

from learner import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [(errors.BatchError, 1), (errors.ModelError, 2), (errors.CheckpointError, 1), (errors.NonFiniteError, 1)],
)
def test_every_error_has_the_root_and_an_exit_code(kind: type[errors.LearnerError], code: int) -> None:
    assert issubclass(kind, errors.LearnerError) and kind.exit_code == code


def test_the_drawing_shows_every_error() -> None:
    kinds = [n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.LearnerError)]
    assert all(name in (errors.__doc__ or "") for name in kinds)
