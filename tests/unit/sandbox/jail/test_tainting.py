"""What of tests depends on the program: whether their assertions are run, and what their exceptions are of."""

from __future__ import annotations

import ast

import pytest

from sandbox.jail.tainting import Taint

DECIDED = {
    "for one in f(1): assert one": True,
    "for one in (1, 2): assert f(one)": False,
    "found = f(1)\nrows = [found]\nfor row in rows: assert row": True,
    "rows = []\nrows.append(f(1))\nwhile rows: assert rows.pop()": True,
    "rows = [1]\nrows.sort()\nf(rows)\nfor row in rows: assert row": False,
    "def g(xs):\n    for x in xs: assert x\ng(f(1))": True,
    "def g(xs):\n    for x in xs: assert x\ng([1])": False,
    "def made():\n    return f(1)\nif made(): assert f(2)": True,
    "def test_a():\n    if f(1) is None: return\n    assert f(1)": True,
    "def test_a():\n    if 1 > 2: return\n    assert f(1)": False,
    "def check(function):\n    if function(1): assert function(2)": True,
    "class T:\n    def setup(self): self.found = f(1)\n    def test_a(self):\n        if self.found: assert f(2)": True,
}


@pytest.mark.parametrize("source", DECIDED)
def test_who_decides_whether_an_assertion_is_run(source: str) -> None:
    tree = ast.parse(source)
    [asserted] = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert Taint(tree, {"f"}).decides(asserted) is DECIDED[source]


@pytest.mark.parametrize(
    ("source", "reached"),
    [
        ("open(f(1))", True),
        ("open('/nowhere')", False),
        ("assert open('/nowhere').read() == f(1)", False),
        ("if f(1):\n    open('/nowhere')", True),
        ("for one in [f(1)]:\n    open('/nowhere')", False),
        ("try:\n    assert f(0)\nexcept AssertionError:\n    open('/nowhere')", True),
        ("def read(path):\n    return open(path)\nread(f(1))", True),
        ("def read(path):\n    return open(path)\nf(read('/nowhere'))", False),
    ],
)
def test_who_is_to_blame_for_an_exception(source: str, reached: bool) -> None:
    tree = ast.parse(source)
    with pytest.raises(OSError, match="No such file") as caught:
        exec(compile(tree, "test.py", "exec"), {"f": lambda one: one and "/nowhere/else"})
    assert Taint(tree, {"f"}).reaches(caught.value.__traceback__, "test.py") is reached
