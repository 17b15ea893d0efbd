"""Mathematical answers: exact and rational comparison first, then math-verify in a worker."""

from __future__ import annotations

from sandbox.numbers import normalised, parse_number
from sandbox.registry import verifier
from sandbox.verdict import Grade, Status, Submission
from sandbox.verifiers.exact import expected_answer, given_answer


def quick_math(submission: Submission) -> Grade | None:
    """The grade, if plain text and rational numbers decide it; None if math-verify has to be asked."""
    expected = expected_answer(submission.reference)
    answer = given_answer(submission)
    if answer is None:
        return Grade(Status.UNPARSEABLE, detail="no answer found")
    if normalised(answer) == normalised(expected):
        return Grade.of(True)
    expected_value, value = parse_number(expected), parse_number(answer)
    if expected_value is not None and value is not None:
        return Grade.of(value == expected_value)
    return None


def answer_text(submission: Submission) -> str:
    """What of a response decides its grade."""
    return given_answer(submission) or ""


@verifier("math", isolated=True, warm_up=("math_verify",), quick=quick_math, identity=answer_text)
def math(submission: Submission) -> Grade:
    """`{"answer", "last_number"?}`: the answer is mathematically equal to the expected one."""
    import math_verify

    grade = quick_math(submission)
    if grade is not None:
        return grade
    answer = given_answer(submission)
    expected = math_verify.parse(f"\\boxed{{{expected_answer(submission.reference)}}}", parsing_timeout=None)
    given = math_verify.parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    return Grade.of(bool(math_verify.verify(expected, given, timeout_seconds=None)))
