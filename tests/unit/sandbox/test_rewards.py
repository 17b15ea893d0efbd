"""The parts of a reward besides accuracy."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import RewardConfig, Submission
from sandbox.rewards import boxed_format, overlong, parts_of, r1_zero_format, repetition


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("<think>a</think><answer>b</answer>", 1.0),
        ("a</think>\n<answer>b</answer>\n", 1.0),
        ("<think>a</think><answer></answer>", 0.0),
        ("<think></think><answer>b</answer>", 0.0),
        ("<think>a</think><answer>b</answer> more", 0.0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0.0),
        ("<answer>b</answer><think>a</think>", 0.0),
    ],
)
def test_r1_zero_format(response: str, score: float) -> None:
    assert r1_zero_format(response) == score


@pytest.mark.parametrize(
    ("response", "score"),
    [
        (r"so \boxed{7}", 1.0),
        (r"so \boxed {\frac{1}{2}}.", 1.0),
        (r"so \boxed{7", 0.0),
        (r"so \boxed{}", 0.0),
        (r"so \boxed{7} or \boxed{8}", 0.0),
        (r"so \boxed 7", 0.0),
        ("so 7", 0.0),
    ],
)
def test_boxed_format_asks_for_one_whole_box(response: str, score: float) -> None:
    assert boxed_format(response) == score


def test_overlong_falls_linearly_over_the_cache() -> None:
    assert [overlong(length, False, 100, 50) for length in (10, 50, 75, 100, 101)] == [0.0, 0.0, -0.5, -1.0, -1.0]
    assert overlong(10, True, 100, 50) == -1.0


@given(st.integers(1, 200), st.integers(1, 50))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_overlong_is_monotone_and_bounded(limit: int, cache: int) -> None:
    values = [overlong(length, False, limit, cache) for length in range(1, limit + 20)]
    assert all(a >= b for a, b in itertools.pairwise(values))
    assert values[-1] == -1.0 and overlong(limit, False, limit, cache) == -1.0
    assert overlong(limit - cache, False, limit, cache) == 0.0


def test_repetition_punishes_loops_only() -> None:
    assert repetition("one two three four five six", 3) == 0.0
    assert repetition("so " * 100, 3) < -0.9


def test_parts_are_those_the_configuration_names() -> None:
    config = RewardConfig(format="boxed", overlong_max_tokens=100, overlong_cache_tokens=50, repetition_ngram=3)
    submission = Submission("exact", r"\boxed{1}", {}, length=75)
    assert parts_of(submission, 1.0, config) == {"accuracy": 1.0, "format": 1.0, "overlong": -0.5, "repetition": 0.0}
