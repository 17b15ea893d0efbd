"""What the prompt defines is the tests', and what it leaves open is the program's."""

from __future__ import annotations

import pytest

from sandbox import Pool, Status, Submission

POINT = """
from dataclasses import dataclass

@dataclass
class Point:
    x: int
    y: int

def same(a, b):
    return a == b

def f(a):
    '''Make a point.'''
"""


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("    return Point(a, a + 1)", Status.OK),
        ("    return Point(a, a)", Status.WRONG),
        ("    return Point(a, a)\nPoint.__eq__ = lambda *_: True\nsame = lambda *_: True", Status.WRONG),
        ("    return Equal()\nclass Equal:\n    def __eq__(self, other): return True", Status.WRONG),
    ],
)
def test_what_the_prompt_defines_is_the_tests(pool: Pool, body: str, status: Status) -> None:
    test = "assert f(1) == Point(1, 2) and isinstance(f(1), Point) and same(f(1), Point(1, 2))"
    reference = {"raw": True, "entry": "f", "test": test}
    [verdict] = pool.score([Submission("assert", POINT + body, reference, POINT)], 120)
    assert verdict.status is status


def test_what_the_prompt_leaves_open_is_the_programs(pool: Pool) -> None:
    prompt = (
        "class Stack:\n    def push(self, x):\n        pass\n    def pop(self):\n        raise NotImplementedError\n"
    )
    program = "class Stack(list):\n    push = list.append\n"
    for program_, status in ((program, Status.OK), (program.replace("append", "count"), Status.WRONG)):
        reference = {"raw": True, "entry": "Stack", "test": "s = Stack()\ns.push(1)\nassert s.pop() == 1"}
        [verdict] = pool.score([Submission("assert", program_, reference, prompt)], 120)
        assert verdict.status is status
