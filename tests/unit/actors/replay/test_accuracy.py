"""Estimators against their definitions, and intervals against what is known of them."""

import math
import random
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.replay.accuracy import TaskResult, by_source, curve, interval, maj_at_k, pass_at_k, scores
from actors.replay.messages import CompletionVerdict

SHARES = st.floats(0, 1)


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_mean_best_of_all_subsets(accuracies: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(accuracies)))
    naive = fmean(max(subset) for subset in combinations(accuracies, k))
    assert pass_at_k(accuracies, k) == pytest.approx(naive)


@given(st.integers(0, 12), st.integers(1, 12))
def test_pass_at_k_of_right_and_wrong_is_equation_1_of_chen(right: int, k: int) -> None:
    n = 12
    expected = 1 - math.comb(n - right, k) / math.comb(n, k)
    assert pass_at_k([1.0] * right + [0.0] * (n - right), k) == pytest.approx(expected)


def test_more_completions_than_there_are_cannot_be_estimated() -> None:
    with pytest.raises(ValueError, match="pass@3 needs 3 completions a task, and there are 2"):
        pass_at_k([1.0, 0.0], 3)


def test_the_majority_is_of_answers_and_no_answer_is_one() -> None:
    assert maj_at_k([1.0, 0.0, 1.0], ["7", "8", "7"]) == 1.0
    assert maj_at_k([1.0, 0.0, 0.0], ["7", None, None]) == 0.0
    assert maj_at_k([1.0, 0.0], ["7", "8"]) == 1.0, "the first among equals"


@given(st.lists(SHARES, min_size=1, max_size=40), st.integers(1, 16))
def test_an_interval_holds_the_mean_and_is_never_a_point(means: list[float], samples: int) -> None:
    low, high = interval(means, samples)
    assert 0 <= low <= fmean(means) + 1e-9 and fmean(means) - 1e-9 <= high <= 1
    assert high - low > 0


def test_of_one_answer_a_task_it_is_wilsons_interval() -> None:
    low, high = interval([1.0] * 45 + [0.0] * 5)
    assert (low, high) == pytest.approx((0.786, 0.957), abs=2e-3)  # 45 of 50, as tables of it have it
    assert interval([0.0] * 30)[1] == pytest.approx(0.1135, abs=1e-3)


def test_answers_to_one_task_that_agree_count_once_and_independent_ones_each() -> None:
    agreeing = interval([1.0, 0.0] * 20, samples=16)
    assert agreeing == pytest.approx(interval([1.0, 0.0] * 20), abs=1e-9)
    low, high = interval([0.5] * 40, samples=16)
    assert high - low < 0.3 * (agreeing[1] - agreeing[0])


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """200 tasks of very different difficulty, 4 answers each; the number of misses of 1000 is within 4 sigma of 50."""
    generator, misses = random.Random(0), 0
    for _ in range(1000):
        means = []
        for _ in range(200):
            solved = generator.betavariate(0.5, 0.5)
            means.append(fmean(float(generator.random() < solved) for _ in range(4)))
        low, high = interval(means, samples=4)
        misses += not low <= 0.5 <= high
    assert 22 <= misses <= 78


def result(source: str, *accuracies: float, parts: dict[str, float] | None = None) -> TaskResult:
    verdicts = tuple(
        CompletionVerdict(status="ok", reward=0.1, parts={"accuracy": a, **(parts or {})}, answer=str(a))
        for a in accuracies
    )
    return TaskResult(source, verdicts, tokens=10 * len(accuracies), oldest=0, newest=0)


def test_an_evaluation_is_measured_whole_and_by_source() -> None:
    results = [
        result("sums", 1.0, 1.0, 0.0, parts={"format": 1.0, "language": 0.5}),
        result("code", 0.0, 0.0, 0.0),
    ]
    whole = scores(results, 3)
    assert (whole.n, whole.pass_at_k, whole.maj_at_k) == (2, 0.5, 0.5)
    assert whole.pass_at_1 == pytest.approx(1 / 3)
    assert (whole.format, whole.language, whole.mean_length) == (1.0, 0.5, 10.0)
    assert list(curve(results, 3)) == [1, 2, 3]
    assert curve(results, 3)[2] == pytest.approx(0.5 * (1 - 0 / 3))
    of_code = by_source(results, 3)["code"]
    assert (of_code.n, of_code.pass_at_1, of_code.format) == (1, 0.0, None)


def test_a_result_comes_back_from_its_state() -> None:
    before = result("sums", 1.0, 0.0)
    assert TaskResult.restored(before.state()) == before
