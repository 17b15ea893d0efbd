"""Assert-style tests see what they would in one process with the program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(SandboxConfig(workers=1, test_seconds=20.0, cpu_seconds=20.0), RewardConfig()) as made:
        yield made


def _status(pool: Pool, verifier: str, program: str, prompt: str = "", **reference: Any) -> Status:
    [verdict] = pool.score([Submission(verifier, f"```python\n{program}\n```\n", reference, prompt)], 120)
    return verdict.status


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def f(a):\n    a.sort()", "a = [3, 1]\nf(a)\nassert a == [1, 3]"),
        ("def f(a):\n    a.sort()\n    return a", "a = [3, 1]\nf(a)\nassert a == [1, 3]"),
        ("def f(a):\n    a.sort()\n    return a", "a = [3, 1]\nassert f(a) == [1, 3]"),
        ("def f(m): m[0].append(m.pop())",
         "r = [1]\nm = [r, r, 5]\nf(m)\nassert m == [[1, 5]] * 2 and m[0] is m[1] is r"),
        ("def f(d):\n    d['x'] = d.pop('y')",
         "d = {'y': {1}}\ninner = d['y']\nf(d)\nassert d == {'x': {1}} and d['x'] is inner"),
        ("def f(a): return a", "a = [1]\nassert f(a) is a"),
        ("def f(a): return list(a)", "a = [1]\nassert f(a) == a and f(a) is not a"),
        ("def f(n):\n    for i in range(n): yield i", "assert list(f(3)) == [0, 1, 2]"),
        ("def f(n):\n    while True:\n        yield n", "g = f(1)\nassert next(g) == 1"),
        ("def f(d): return d.keys()", "assert f({'a': 1}) == {'a'}"),
        ("from fractions import Fraction\ndef f(a): return Fraction(a, 3)", "assert f(1) * 3 == 1"),
        ("class Bad(ValueError): pass\ndef f(a): raise Bad('no', a)",
         "try:\n    f(1)\n    assert False\nexcept ValueError as e:\n    assert e.args == ('no', 1)"),
        ("def f(a): print(a)",
         "import io, contextlib\nout = io.StringIO()\n"
         "with contextlib.redirect_stdout(out): f(3)\nassert out.getvalue() == '3\\n'"),
        ("def f(a): return a + 1", "import sys\nassert f(1) == 2\nsys.exit(0)"),
        ("def f(a): return a + 1", "def test_it():\n    assert f(1) == 2"),
        ("def f(a): return a + 1",
         "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): self.assertEqual(f(1), 2)\n"),
    ],
)  # fmt: skip
def test_tests_see_what_they_would_in_one_process(pool: Pool, program: str, test: str) -> None:
    assert _status(pool, "assert", program, entry="f", test=test) is Status.OK


def test_length_of_a_list_shortened_in_place_is_seen_where_asked_for(pool: Pool) -> None:
    program = "def f(a):\n    a[:] = sorted(set(a))\n    return len(a)"
    test = "a = [1, 1, 2]\nk = f(a)\nassert a[:k] == [1, 2]"
    assert _status(pool, "assert", program, entry="f", test=test, mutates=True) is Status.OK
    assert _status(pool, "assert", program, entry="f", test=test) is Status.WRONG


def test_broken_tests_are_not_the_programs_fault(pool: Pool) -> None:
    for test in ("import nowhere\nassert f(1) == 1", "assert f(1) == helper(1)"):
        assert _status(pool, "assert", "def f(a): return a", entry="f", test=test) is Status.INFRA_ERROR
    for error in ("ImportError", "NameError"):
        assert _status(pool, "assert", f"def f(a): raise {error}", entry="f", test="assert f(1)") is Status.WRONG
