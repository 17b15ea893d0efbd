"""Verifiers that cost no process: exact text and exact numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from sandbox.errors import BadReferenceError
from sandbox.extraction import answer_of
from sandbox.mathematics.quantities import number
from sandbox.mathematics.text import unmarked
from sandbox.numbers import normalised
from sandbox.registry import verifier
from sandbox.verdict import Grade, Status, Submission


def expected_answer(reference: Mapping[str, Any]) -> str:
    """The reference's `answer` as text.

    Raises:
        BadReferenceError: there is none.
    """
    answer = reference.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        near = difflib.get_close_matches("answer", [key for key in reference if key != "answer"], n=1)
        hint = f'; it has "{near[0]}": did you mean "answer"?' if near else ""
        raise BadReferenceError(f'the reference needs an "answer" (text or number){hint}')
    return str(answer)


def given_answer(submission: Submission) -> str | None:
    """The answer in a submission's response; the reference's option `last_number` admits the last bare number."""
    return answer_of(submission.response, last_number=bool(submission.reference.get("last_number", False)))


@verifier("exact", reference_keys=("answer", "last_number"))
def exact(submission: Submission) -> Grade:
    """`{"answer", "last_number"?}`: the answer is the same text, but for Unicode forms, white space and Markdown."""
    expected = expected_answer(submission.reference)
    answer = given_answer(submission)
    if answer is None:
        return Grade(Status.UNPARSEABLE, detail="no answer found")
    # Normalising an answer that is far too long to be right would only cost time.
    comparable = len(answer) <= 4 * len(expected) + 200
    return Grade.of(
        answer == expected
        or (comparable and normalised(expected) in (normalised(answer), normalised(unmarked(normalised(answer)))))
    )


@verifier("numeric", reference_keys=("answer", "last_number", "absolute_tolerance", "relative_tolerance"))
def numeric(submission: Submission) -> Grade:
    """`{"answer", "last_number"?, "absolute_tolerance"?, "relative_tolerance"?}`: the answer has the same value.

    Mark-up, a currency, a unit or noun behind the number and a name before it do not matter.
    """
    expected = number(expected_answer(submission.reference))
    if expected is None:
        raise BadReferenceError(f"the reference's answer is not a number: {submission.reference['answer']!r:.80}")
    answer = given_answer(submission)
    if answer is None:
        return Grade(Status.UNPARSEABLE, detail="no answer found")
    value = number(answer)
    if value is None:
        return Grade(Status.UNPARSEABLE, detail=f"not a number: {answer!r:.80}")
    allowed = max(
        _tolerance(submission, "absolute_tolerance"), _tolerance(submission, "relative_tolerance") * abs(expected)
    )
    return Grade.of(abs(value - expected) <= allowed)


def _tolerance(submission: Submission, name: str) -> Fraction:
    value = submission.reference.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise BadReferenceError(f"{name} must be a finite number of at least 0, it is {value!r:.80}")
    return Fraction(value)
