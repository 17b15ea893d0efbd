"""What a verifier makes of a leased group, and of the verdicts on it."""

from typing import Any

import pytest

from actors.roles.verifier.verifier import submissions_of, verdict_of
from sandbox import Status, Verdict

GROUP: dict[str, Any] = {
    "purpose": "train",
    "group_id": 7,
    "verifier": "numeric",
    "reference": {"answer": "12"},
    "prompt": "5+7=",
    "messages": [["user", "5+7="]],
    "texts": ["<answer>12</answer>", "it is 13"],
    "truncated": [0, 1],
    "lengths": [9, 4],
}


def verdict(status: Status, reward: float | None, detail: str = "") -> Verdict:
    return Verdict(status, reward, {"accuracy": reward or 0.0}, seconds=0.1, detail=detail)


def test_a_completion_is_a_submission_with_all_that_its_verifier_needs() -> None:
    first, second = submissions_of(GROUP)
    assert (first.verifier, first.response, first.reference) == ("numeric", "<answer>12</answer>", {"answer": "12"})
    assert (first.truncated, second.truncated) == (False, True)


def test_verdicts_carry_reward_parts_and_the_answer_for_the_majority_vote() -> None:
    scores = verdict_of(GROUP, submissions_of(GROUP), [verdict(Status.OK, 1.0), verdict(Status.WRONG, 0.0)])["scores"]
    assert [s["reward"] for s in scores] == [1.0, 0.0]
    assert [s["answer"] for s in scores] == ["12", None]


@pytest.mark.parametrize("position", [0, 1])
def test_one_infra_error_sends_the_whole_group_back_unscored(position: int) -> None:
    verdicts = [verdict(Status.OK, 1.0), verdict(Status.OK, 1.0)]
    verdicts[position] = verdict(Status.INFRA_ERROR, None, "the sandbox broke")
    told = verdict_of(GROUP, submissions_of(GROUP), verdicts)
    assert told["scores"] is None and told["group_id"] == 7
    assert "the sandbox broke" in told["detail"]
