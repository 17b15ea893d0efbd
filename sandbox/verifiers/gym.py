"""Scores answers with reasoning-gym's own scoring functions."""

from __future__ import annotations

from sandbox.errors import BadReferenceError
from sandbox.registry import verifier
from sandbox.verdict import Grade, Status, Submission
from sandbox.verifiers.exact import given_answer


@verifier(
    "reasoning_gym",
    isolated=True,
    warm_up=("reasoning_gym",),
    reference_keys=("dataset", "entry", "last_number"),
)
def reasoning_gym(submission: Submission) -> Grade:
    """`{"dataset", "entry", "last_number"?}`: the score of `reasoning_gym.get_score_answer_fn(dataset)`."""
    from reasoning_gym.factory import DATASETS, get_score_answer_fn

    dataset, entry = submission.reference.get("dataset"), submission.reference.get("entry")
    if dataset not in DATASETS:
        raise BadReferenceError(f"reasoning-gym has no data set called {dataset!r:.80}")
    if not isinstance(entry, dict):
        raise BadReferenceError('the reference needs the "entry" that reasoning-gym produced')
    answer = given_answer(submission)
    if answer is None:
        return Grade(Status.UNPARSEABLE, detail="no answer found")
    return Grade.of(get_score_answer_fn(dataset)(answer, entry))
