"""The labelled set, through the pool; and text that is out to cost time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission
from sandbox.mathematics import NeedsAlgebraError, matches
from tests.unit.sandbox.math_pairs import PAIRS


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


def test_most_pairs_need_no_process() -> None:
    def undecided(expected: str, answer: str) -> bool:
        try:
            matches(expected, answer)
        except NeedsAlgebraError:
            return True
        return False

    assert sum(undecided(expected, answer) for expected, answer, _ in PAIRS) < len(PAIRS) / 3


@pytest.mark.parametrize(
    "answer",
    [
        "9" * 700,
        "9^{9^{9^{9^9}}}",
        "(10^{10^9})!",
        r"\sum_{n=1}^{10^{12}} \frac{1}{n^3}",
        r"\int_0^1 \sin(\sin(\sin(\sin(x^{x^x})))) dx",
        "(" * 400 + "1" + ")" * 390,
        "{" * 2000,
        r"\frac{" * 120,
        "x^{" * 20 + "y" + "}" * 20,
        "(x+1)^{9999}",
        "1,2," * 150 + "3",
        "__import__('os')._exit(0)",
        "exec('import os; os._exit(0)')",
        "\x00\ud800".encode("utf-8", "replace").decode(),
    ],
)
def test_hostile_answers_are_graded_as_wrong_whatever_they_cost(answer: str) -> None:
    with Pool(SandboxConfig(workers=1, answer_seconds=1.0), RewardConfig()) as pool:
        [verdict] = pool.score([_submission("42x+1", answer)], 60)
    assert verdict.status in (Status.WRONG, Status.TIMEOUT, Status.MEMORY, Status.UNPARSEABLE)
    assert verdict.reward == 0.0


@given(st.text(alphabet="0123456789xy+-*/^(){}[],=<> \\abcdefimnoqrtu%$.√½", max_size=60))
@settings(deadline=None)
def test_structure_never_raises(text: str) -> None:
    for expected in ("42", "1,2", "(1,2)", "x<2", r"\begin{pmatrix}1\\2\end{pmatrix}", "x=5"):
        assert matches(expected, text, lambda *_: False) in (True, False)
        assert matches(text, text, lambda *_: False)
