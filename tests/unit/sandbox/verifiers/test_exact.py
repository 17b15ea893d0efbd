"""Exact text and exact numbers."""

from __future__ import annotations

import pytest

from sandbox import BadReferenceError, Status, Submission, lookup


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
        ("**42**", "42", True),
        (r"\$1,250.00", "1250", True),
        ("€1250", "1250", True),
        ("30 marbles", "30", True),
        (r"30\text{ dollars}", "30", True),
        ("1.5 million", "1500000", True),
        ("1.5 million", "1.5", False),
        ("n = 12", "12", True),
        ("2n = 12", "12", False),
        (r"20\,500", "20500", True),
        (r"2\ 5", "25", False),
        ("3 7/2", "6.5", False),
        (r"0.\overline{3}", "1/3", True),
        ("12 or 13", "12", False),
        ("12x", "12", False),
    ],
)
def test_numbers_are_compared_exactly(given_text: str, expected: str, same: bool) -> None:
    grade = lookup("numeric").function(Submission("numeric", f"<answer>{given_text}</answer>", {"answer": expected}))
    assert (grade.status is Status.OK) is same


@pytest.mark.parametrize(
    ("given_text", "expected", "same"),
    [
        ("**lemon**", "lemon", True),
        ("`lemon`", "lemon", True),
        ("**lemon**", "**lemon**", True),
        ("Lemon", "lemon", False),
    ],
)
def test_text_is_compared_without_markdown(given_text: str, expected: str, same: bool) -> None:
    grade = lookup("exact").function(Submission("exact", f"<answer>{given_text}</answer>", {"answer": expected}))
    assert (grade.status is Status.OK) is same


@pytest.mark.parametrize(
    ("reference", "hint"),
    [({}, r"number\)$"), ({"answer": None}, r"number\)$"), ({"anwser": "4"}, 'it has "anwser": did you mean "answer"')],
)
def test_a_missing_answer_is_named_with_what_may_be_meant(reference: dict[str, object], hint: str) -> None:
    with pytest.raises(BadReferenceError, match=hint):
        lookup("exact").function(Submission("exact", "<answer>4</answer>", reference))


def test_tolerance_is_asked_for() -> None:
    reference = {"answer": "3.14159", "absolute_tolerance": 0.01}
    assert lookup("numeric").function(Submission("numeric", "<answer>3.14</answer>", reference)).status is Status.OK
