"""Right programs pass, however they are written: what a usual interpreter offers, and what tests may look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission
from sandbox.extraction import last_boxed, last_program
from sandbox.jail.values import encode
from sandbox.programs.matching import value_matches
from sandbox.prompts import before_tests, code_of


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(SandboxConfig(workers=1, test_seconds=20.0, cpu_seconds=20.0), RewardConfig()) as made:
        yield made


def _status(pool: Pool, verifier: str, program: str, prompt: str = "", **reference: Any) -> Status:
    [verdict] = pool.score([Submission(verifier, f"```python\n{program}\n```\n", reference, prompt)], 120)
    return verdict.status


SUM = "n = int(input())\ns = sum(map(int, input().split()))\n"


@pytest.mark.parametrize(
    "program",
    [
        SUM + "print(s)\nexit()",
        SUM + "print(s)\nquit(0)",
        SUM + "import sys\nsys.__stdout__.write(str(s))",
        SUM + "import os\nout = os.fdopen(1, 'w')\nout.write(str(s))",
        SUM + "import sys, io\nold = sys.stdout\nold.write(str(s))\nsys.stdout = io.StringIO()\nprint('else')",
        SUM + "import sys\nassert sys.stdin.mode == 'r' and sys.stdout.mode == 'w' and sys.stdin.name\nprint(s)",
        SUM + "assert __file__\nprint(s)",
        SUM + "import threading\nbarrier = threading.Barrier(40)\n"
        "for _ in range(39): threading.Thread(target=barrier.wait).start()\nbarrier.wait()\nprint(s)",
        "import threading\nthreading.stack_size(1 << 29)\n"
        "t = threading.Thread(target=lambda: print(int(input()) * 3))\nt.start()",
        SUM + "assert len(str(3**30000)) == 14314\nprint(s)",
        "import numpy as np\nn = int(input())\nprint(np.array(input().split(), dtype=int).sum())",
    ],
)
def test_programs_find_a_usual_interpreter(pool: Pool, program: str) -> None:
    assert _status(pool, "stdio", program, tests=[{"stdin": "5\n1 2 3 4 5\n", "stdout": "15"}]) is Status.OK


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


def test_a_checker_that_stumbles_over_the_output_refuses_it(pool: Pool) -> None:
    checker = "def check(stdin, output, expected):\n    return int(output) > 3"
    for expected in ("7", ""):
        tests = [{"stdin": "", "stdout": expected}]
        assert _status(pool, "stdio", "print('what')", tests=tests, checker=checker) is Status.WRONG
        assert _status(pool, "stdio", "print(5)", tests=tests, checker=checker) is Status.OK
    broken = "def check(stdin, output, expected):\n    return undefined"
    tests = [{"stdin": "", "stdout": "7"}]
    assert _status(pool, "stdio", "print(7)", tests=tests, checker=broken) is Status.INFRA_ERROR


def test_helpers_of_a_prompt_reach_the_tests_and_cannot_be_replaced(pool: Pool) -> None:
    prompt = "Write `f`.\n```python\ndef double(x):\n    return 2 * x\n\nprint(f(1))\n```\n"
    assert code_of(prompt).startswith("def double") and "print" not in code_of(prompt)
    assert before_tests("Identity") == ["", ""]
    test = "assert double(f(1)) == 8"
    assert _status(pool, "assert", "def f(a): return 4 * a", prompt, entry="f", test=test) is Status.OK
    cheat = "def double(x): return 8\ndef f(a): return 0"
    assert _status(pool, "assert", cheat, prompt, entry="f", test=test) is Status.WRONG


def test_whole_numbers_and_keys_from_json() -> None:
    assert value_matches(4, encode(4.0)) and value_matches(5, encode(5.0000001))
    assert not value_matches(1000000007, encode(1e9))
    assert value_matches({"1": 2}, encode({1: 2})) and not value_matches({"1": 2}, encode({1.0: 2}))


def test_fences_and_boxes() -> None:
    assert last_program("1. So:\n   ```python\n   if x:\n       y\n   ```\n") == "if x:\n    y\n"
    assert last_program("```python\nx\n````\n") == "x\n"
    assert last_program("~" * 100_000 + "`") is None
    assert last_boxed(r"\boxed{\boxed{42}+1}") == "{42}+1"
    assert last_boxed(r"\boxed{a \boxed{42}") == "42"
