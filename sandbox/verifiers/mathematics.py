"""The `math` verifier: what text and rational numbers decide costs no process, the rest goes to math-verify."""

from __future__ import annotations

from sandbox.mathematics import NeedsAlgebraError, matches
from sandbox.registry import verifier
from sandbox.verdict import Grade, Status, Submission
from sandbox.verifiers.exact import expected_answer, given_answer


def math_fast_path(submission: Submission) -> Grade | None:
    """The grade, if it can be had without an algebra system."""
    expected, answer = expected_answer(submission.reference), given_answer(submission)
    if answer is None:
        return Grade(Status.UNPARSEABLE, detail="no answer found")
    try:
        return Grade.of(matches(expected, answer))
    except NeedsAlgebraError:
        return None


def answer_text(submission: Submission) -> str:
    """What of a response decides its grade."""
    return given_answer(submission) or ""


@verifier(
    "math",
    isolated=True,
    warm_up=("sandbox.mathematics.algebra",),
    fast_path=math_fast_path,
    cache_key=answer_text,
    reference_keys=("answer", "last_number"),
)
def math(submission: Submission) -> Grade:
    """`{"answer", "last_number"?}`: the answer is mathematically equal to the expected one."""
    from sandbox.mathematics.algebra import equal

    return Grade.of(matches(expected_answer(submission.reference), answer_text(submission), equal))
