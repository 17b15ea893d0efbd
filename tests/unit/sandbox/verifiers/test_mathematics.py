"""The labelled set, through the pool; and text that is out to cost time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.math_pairs import HOSTILE, PAIRS
from benchmarks.mathematics import DOCUMENT, document, math_verify_wrong
from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission
from sandbox.mathematics import NeedsAlgebraError, matches


def _submission(expected: str, answer: str) -> Submission:
    return Submission("math", f"<think>so</think><answer>{answer}</answer>", {"answer": expected})


def test_the_labelled_set_is_right_and_in_time() -> None:
    assert len(PAIRS) >= 150
    with Pool(SandboxConfig(workers=2), RewardConfig()) as pool:
        verdicts = pool.score([_submission(expected, answer) for expected, answer, _ in PAIRS], 110)
    wrong = [
        (*pair, verdict.status, verdict.detail)
        for pair, verdict in zip(PAIRS, verdicts, strict=True)
        if verdict.status is not (Status.OK if pair[2] else Status.WRONG)
    ]
    assert wrong == []


def test_the_list_of_what_math_verify_gets_wrong_is_current() -> None:
    found = (Path(__file__).parents[4] / DOCUMENT).read_text(encoding="utf-8")
    assert found == document(math_verify_wrong()), "run `python -m benchmarks math --write`"


def test_most_pairs_need_no_process() -> None:
    def undecided(expected: str, answer: str) -> bool:
        try:
            matches(expected, answer)
        except NeedsAlgebraError:
            return True
        return False

    assert sum(undecided(expected, answer) for expected, answer, _ in PAIRS) < len(PAIRS) / 3


@pytest.mark.parametrize("answer", HOSTILE)
def test_hostile_answers_are_graded_as_wrong_whatever_they_cost(answer: str) -> None:
    with Pool(SandboxConfig(workers=1, grader_seconds=1.0), RewardConfig()) as pool:
        [verdict] = pool.score([_submission("42x+1", answer)], 60)
    assert verdict.status in (Status.WRONG, Status.TIMEOUT, Status.MEMORY, Status.UNPARSEABLE)
    assert verdict.reward == 0.0


@given(st.text(alphabet="0123456789xy+-*/^(){}[],=<> \\abcdefimnoqrtu%$.√½", max_size=60))
@settings(deadline=None)
def test_structure_never_raises(text: str) -> None:
    for expected in ("42", "1,2", "(1,2)", "x<2", r"\begin{pmatrix}1\\2\end{pmatrix}", "x=5"):
        assert matches(expected, text, lambda *_: False) in (True, False)
        assert matches(text, text, lambda *_: False)
