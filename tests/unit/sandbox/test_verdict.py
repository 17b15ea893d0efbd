"""A grade from whatever a verifier returns."""

from __future__ import annotations

import pytest

from sandbox import Grade, Status
from sandbox.verdict import as_grade


def test_a_full_score_is_ok_and_partial_credit_is_kept() -> None:
    assert Grade.of(0.4) == Grade(Status.WRONG, 0.4)
    assert Grade.of(7) == Grade(Status.OK, 1.0)


def test_a_verifier_may_return_a_grade_a_bool_or_a_score_and_nothing_else() -> None:
    assert [as_grade(result) for result in (True, 0.25, Grade(Status.TIMEOUT))] == [
        Grade(Status.OK, 1.0),
        Grade(Status.WRONG, 0.25),
        Grade(Status.TIMEOUT),
    ]
    for result in ("ok", None, [1]):
        with pytest.raises(TypeError, match="a verifier returns"):
            as_grade(result)
