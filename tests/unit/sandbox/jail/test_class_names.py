"""What tests use as a class is read from how they are written."""

from __future__ import annotations

import ast

import pytest

from sandbox.jail.class_names import class_names


@pytest.mark.parametrize(
    ("tests", "found"),
    [
        ("b = Box(1)\nassert b.total == 1 and b == 1", {"Box"}),
        ("b = stack()\nb.push(1)\nassert b == [1]", {"stack"}),
        ("assert isinstance(box(1), box)", {"box"}),
        ("assert Box(1) * 2 == Box(2)", {"Box"}),
        ("import solution\nassert solution.Box(1).total == 1", {"Box"}),
        ("from solution import Box as B\nassert B(1).total == 1", {"Box"}),
        ("def box():\n    return Box(1)\ndef test_it(box):\n    assert box.total == 1", {"Box"}),
        ("for box in [Box(1), Box(2)]:\n    assert box.total", {"Box"}),
        ("def check(candidate):\n    assert candidate(1).total == 1", {"Entry", ""}),
        ("assert f(1) == 9 and f(1).strip() == '9'", set()),
        ("assert Sum([1]) == 9 and Sum([2]) in (1, 2)", set()),
        ("r = f(1)\nassert r.shape == (1, 2) and (r == 1).all()", set()),
        ("assert f(1) == f(2)", set()),
    ],
)
def test_classes_are_told_by_their_use(tests: str, found: set[str]) -> None:
    names = class_names(ast.parse(""), ast.parse(tests), "Entry")
    assert names & {"Box", "stack", "box", "Sum", "f", "Entry", ""} == found


def test_what_the_prompt_declares_is_a_class() -> None:
    setup = ast.parse("class roman:\n    def __init__(self, text): ...")
    assert class_names(setup, ast.parse("assert roman('X') == 10"), "roman") == {"roman", ""}
