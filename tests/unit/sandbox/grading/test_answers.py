"""Extraction of answers, cheap verifiers and the parts of a reward."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import Grade, RewardConfig, Status, Submission, answer_of, lookup
from sandbox.extraction import last_program
from sandbox.language import consistency
from sandbox.numbers import parse_number
from sandbox.rewards import overlong, parts_of, r1_zero_format, repetition


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<answer>1</answer> then <answer> 2 </answer>", "2"),
        (r"\boxed{1} <answer>so \boxed{\frac{1}{2}}</answer> \boxed{3}", r"\frac{1}{2}"),
        (r"\boxed{1}, no, \boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"first \boxed{1} and then \boxed{2", "1"),
        (r"\boxed 7$", "7"),
        ("<answer>1", None),
        ("the answer is 42", None),
        (r"\boxed", None),
        ("", None),
    ],
)
def test_only_the_last_answer_counts(response: str, answer: str | None) -> None:
    assert answer_of(response) == answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [("3 apples and -4.5.", "-4.5"), ("it costs 1,234", "1,234"), ("x1 y2", None), ("<answer>9</answer> 10", "9")],
)
def test_last_number_is_the_last_resort(response: str, answer: str | None) -> None:
    assert answer_of(response, last_number=True) == answer


@given(st.text(alphabet="\\boxed{}<answer>/1 ", max_size=60))
@settings(deadline=None)
def test_extraction_never_raises(text: str) -> None:
    answer_of(text, last_number=True)
    last_program(text)


@pytest.mark.parametrize(
    ("given_text", "expected", "same"),
    [
        ("1,200.0", "1200", True),
        (r"\frac{3}{4}", "0.75", True),
        ("2 1/2", "2.5", True),
        ("12%", "0.12", True),
        (r"12\%", "12", False),
        ("４２", "42", True),
        ("¾", "0.75", True),
        ("2½", "2.5", True),
        ("−3", "-3", True),
        ("1e3", "1000", True),
        ("1/3", "0.3333", False),
        ("42.", "42", True),
        ("42=42", "42", False),
        ("41,42", "42", False),
        ("1/0", "0", False),
    ],
)
def test_numbers_are_compared_exactly(given_text: str, expected: str, same: bool) -> None:
    grade = lookup("numeric").function(Submission("numeric", f"<answer>{given_text}</answer>", {"answer": expected}))
    assert (grade.status is Status.OK) is same


@pytest.mark.parametrize(
    "piece", [r"\boxed{", "{", "<answer>", "</think><answer>", " ", "\\[", "\\begin{", "$", "```a\n", "1,", "\\"]
)
def test_extraction_is_linear_in_hostile_text(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    answer_of(text, last_number=True)
    last_program(text)
    r1_zero_format(text)
    consistency(text, "zh")


def test_numbers_cost_nothing_however_they_are_written() -> None:
    assert parse_number("1e999999999") is None
    assert parse_number("9" * 100_000) is None


@given(st.text(max_size=40))
@settings(deadline=None)
def test_parse_number_never_raises(text: str) -> None:
    parse_number(text)


@given(st.integers(-(10**12), 10**12))
@settings(deadline=None)
def test_integers_survive_however_they_are_grouped(value: int) -> None:
    assert parse_number(f"{value:,}") == value == parse_number(str(value))


def test_tolerance_is_asked_for() -> None:
    reference = {"answer": "3.14159", "absolute_tolerance": 0.01}
    assert lookup("numeric").function(Submission("numeric", "<answer>3.14</answer>", reference)).status is Status.OK


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


def test_a_full_score_is_ok_and_partial_credit_is_kept() -> None:
    assert Grade.of(0.4) == Grade(Status.WRONG, 0.4)
    assert Grade.of(7) == Grade(Status.OK, 1.0)


def test_the_last_closed_fence_is_the_program() -> None:
    assert last_program("```python\na\n```\ntext\n```\nb\n```\n```python\nc") == "b\n"
    assert last_program("no fence") is None
