"""The final answer and the program in a response: only the last one counts, and no text costs time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import answer_of
from sandbox.extraction import last_boxed
from sandbox.language import consistency
from sandbox.rewards import r1_zero_format


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<answer>1</answer> then <answer> 2 </answer>", "2"),
        (r"\boxed{1} <answer>so \boxed{\frac{1}{2}}</answer> \boxed{3}", r"\frac{1}{2}"),
        (r"\boxed{1}, no, \boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"first \boxed{1} and then \boxed{2", None),
        (r"first \boxed{1} and then \boxed", None),
        ("<answer>1</answer>, no: <answer>2", None),
        (r"<answer>1</answer>, no: <answer>\boxed{2}", None),
        (r"<answer>so \boxed{2</answer>", None),
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
    [
        ("3 apples and -4.5.", "-4.5"),
        ("it costs 1,234", "1,234"),
        ("x1 y2", None),
        ("<answer>9</answer> 10", "9"),
        ("it weighs 2.6kg", "2.6"),
        ("it is 2.5x as long", "2.5"),
        ("that is 5/8.", "5/8"),
        (r"that is \frac{5}{8}", r"\frac{5}{8}"),
        ("that is 2 5/8 inches", "2 5/8"),
        ("so 2^9", "2^9"),
        ("so 2^{9}", None),
        (r"so \sqrt{7}", None),
        ("at 4:15", "4:15"),
        ("the 3rd of 8", "8"),
        ("8 on the 3rd", "8"),
        ("between 3-4", "4"),
        (r"in all 20,\!500 ways", r"20,\!500"),
        (r"6 + 9 = \boxed{15", None),
    ],
)
def test_last_number_is_the_last_resort(response: str, answer: str | None) -> None:
    assert answer_of(response, last_number=True) == answer


@given(st.text(alphabet="\\boxed{}<answer>/1 ", max_size=60))
@settings(deadline=None)
def test_extraction_never_raises(text: str) -> None:
    answer_of(text, last_number=True)


@pytest.mark.parametrize(
    "piece", [r"\boxed{", "{", "<answer>", "</think><answer>", " ", "\\[", "\\begin{", "$", "```a\n", "1,", "\\"]
)
def test_extraction_is_linear_in_hostile_text(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    answer_of(text, last_number=True)
    r1_zero_format(text)
    consistency(text, "zh")


def test_boxes() -> None:
    assert last_boxed(r"\boxed{\boxed{42}+1}") == "{42}+1"
    assert last_boxed(r"\boxed{a \boxed{42}") == "42"
