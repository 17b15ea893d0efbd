"""Programs through the pool: right ones pass, wrong ones fail for the right reason, identical ones run once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

SUM = "a, b = map(int, input().split())\nprint(a + b)"
TESTS = [{"stdin": "2 3\n", "stdout": "5\n"}, {"stdin": "10 -3\n", "stdout": "7"}]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(SandboxConfig(workers=2, test_seconds=3.0), RewardConfig()) as made:
        yield made


def _submission(verifier: str, program: str, prompt: str = "", **reference: Any) -> Submission:
    return Submission(verifier, f"Let me think.\n```python\n{program}\n```\n", reference, prompt)


def _status(pool: Pool, submission: Submission) -> Status:
    [verdict] = pool.score([submission], 60)
    assert (verdict.reward is None) == (verdict.status is Status.INFRA_ERROR), verdict
    return verdict.status


@pytest.mark.parametrize(
    ("program", "status"),
    [
        (SUM, Status.OK),
        ("import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))", Status.OK),
        ("import threading, sys\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 26)\n"
         "t = threading.Thread(target=lambda: print(sum(map(int, input().split()))))\nt.start()\nt.join()", Status.OK),
        ("import resource\nresource.setrlimit(resource.RLIMIT_STACK, (1 << 29, 1 << 29))\n" + SUM, Status.OK),
        ("if __name__ == '__main__':\n    print(*[sum(int(x) for x in open(0).read().split())])", Status.OK),
        ("import sys\na, b = map(int, input().split())\nsys.stdout.write(f'{a + b}')\nsys.exit()", Status.OK),
        ("print(5)", Status.WRONG),
        ("print(input(), 'and more')", Status.WRONG),
        ("print(1 // 0)", Status.WRONG),
        ("import sys\nprint(5)\nsys.exit(3)", Status.WRONG),
        ("while True: pass", Status.TIMEOUT),
        ("x = [0] * 10**10", Status.MEMORY),
        ("print('unclosed", Status.UNPARSEABLE),
        ("import socket\nsocket.socket()", Status.FORBIDDEN),
        ("", Status.UNPARSEABLE),
    ],
)  # fmt: skip
def test_stdio(pool: Pool, program: str, status: Status) -> None:
    assert _status(pool, _submission("stdio", program, tests=TESTS)) is status


def test_output_is_compared_as_in_competitive_programming(pool: Pool) -> None:
    for program, expected, status in [
        ("print(1 / 3)", "0.333333", Status.OK),
        ("print('a   b\\n\\n c')", "a b c\n", Status.OK),
        ("print(1000000008)", "1000000007", Status.WRONG),
        ("print('nan')", "0.5", Status.WRONG),
        ("print(0.34)", "0.333333", Status.WRONG),
    ]:
        assert _status(pool, _submission("stdio", program, tests=[{"stdin": "", "stdout": expected}])) is status


def test_a_checker_decides_where_several_outputs_are_right(pool: Pool) -> None:
    checker = "def check(stdin, output, expected):\n    return sorted(output.split()) == sorted(expected.split())"
    tests = [{"stdin": "", "stdout": "1 2 3"}]
    assert _status(pool, _submission("stdio", "print(3, 1, 2)", tests=tests, checker=checker)) is Status.OK
    assert _status(pool, _submission("stdio", "print(3, 1)", tests=tests, checker=checker)) is Status.WRONG
    assert _status(pool, _submission("stdio", "print(3)", tests=tests, checker="boom")) is Status.INFRA_ERROR


def test_a_checker_that_stumbles_over_the_output_refuses_it(pool: Pool) -> None:
    checker = "def check(stdin, output, expected):\n    return int(output) > 3"
    for expected in ("7", ""):
        tests = [{"stdin": "", "stdout": expected}]
        assert _status(pool, _submission("stdio", "print('what')", tests=tests, checker=checker)) is Status.WRONG
        assert _status(pool, _submission("stdio", "print(5)", tests=tests, checker=checker)) is Status.OK
    broken = "def check(stdin, output, expected):\n    return undefined"
    tests = [{"stdin": "", "stdout": "7"}]
    assert _status(pool, _submission("stdio", "print(7)", tests=tests, checker=broken)) is Status.INFRA_ERROR


def test_partial_credit_only_where_asked_for(pool: Pool) -> None:
    program, tests = "print(5)", [*TESTS, TESTS[0], TESTS[0]]
    [all_or_nothing] = pool.score([_submission("stdio", program, tests=tests)], 60)
    [partial] = pool.score([_submission("stdio", program, tests=tests, partial_credit=True)], 60)
    assert (all_or_nothing.reward, partial.status, partial.reward) == (0.0, Status.WRONG, 0.75)


@pytest.mark.parametrize(
    ("program", "expected", "status"),
    [
        ("def f(x):\n    return x[::-1]", [3, 2, 1], Status.OK),
        ("class Solution:\n    def f(self, x):\n        return tuple(x[::-1])", [3, 2, 1], Status.OK),
        ("def f(x):\n    return {'a': [1.0000000001], 'b': None}", {"a": [1], "b": None}, Status.OK),
        ("from collections import Counter\ndef f(x):\n    return Counter('aab')", {"a": 2, "b": 1}, Status.OK),
        ("def f(x):\n    return 2 ** 5000", 2**5000, Status.OK),
        ("def f(x):\n    return True", 1, Status.WRONG),
        ("def f(x):\n    return float('nan')", 1.0, Status.WRONG),
        ("def f(x):\n    return {1, 2, 3}", [1, 2, 3], Status.WRONG),
        ("def f(x):\n    return object()", None, Status.WRONG),
        ("def g(x):\n    return 1", 1, Status.WRONG),
        ("def f(x):\n    print(1)", 1, Status.WRONG),
    ],
)
def test_function(pool: Pool, program: str, expected: object, status: Status) -> None:
    assert _status(pool, _submission("function", program, entry="f", tests=[[[[1, 2, 3]], expected]])) is status


@pytest.mark.parametrize(
    "expression",
    [
        "sys.maxsize > 1", "deepcopy([1]) == [1]", "copy.copy([1]) == [1]", "randint(1, 1) == 1", "choice([3]) == 3",
        "reduce(xor, [1, 2]) == 3", "add(1, 2) == 3", "itemgetter(1)([5, 6]) == 6", "json.loads('[1]') == [1]",
        "dumps([1]) == '[1]'", "ascii_lowercase[:2] == 'ab'", "string.digits[0] == '0'", "statistics.mean([1, 3]) == 2",
        "median([1, 2, 3]) == 2", "datetime.date(2020, 1, 2).day == 2", "timedelta(days=1).days == 1",
        "gcd(4, 6) == 2 and math.gcd(4, 6) == 2", "inf > 1", "pow(2, 3, 5) == 3", "heapify([1]) is None",
        "len(deque([1])) == 1", "bisect_left([1, 2], 2) == 1", "list(accumulate([1, 2])) == [1, 3]",
        "re.findall('a', 'aba') == ['a', 'a']", "StringIO('a').read() == 'a'", "sorted([2, 1]) == [1, 2]",
        "ListNode(1, ListNode(2)).next.val == 2", "TreeNode(1).left is None", "Optional[List[int]] is not None",
        "cache(lambda x: x)(1) == 1", "Counter('aa')['a'] == 2",
    ],
)  # fmt: skip
def test_solutions_in_leetcodes_form_find_what_it_gives_them(pool: Pool, expression: str) -> None:
    program = f"class Solution:\n    def run(self):\n        return {expression}"
    assert _status(pool, _submission("function", program, entry="run", tests=[[[], True]])) is Status.OK
    bare = f"def run():\n    return {expression}"
    expected = Status.OK if expression.startswith(("pow", "sorted")) else Status.WRONG
    assert _status(pool, _submission("function", bare, entry="run", tests=[[[], True]])) is expected


CHECK = """
def check(candidate):
    assert candidate([1, 2]) == 3
    assert candidate([], start=5) == 5
    try:
        candidate(None)
    except TypeError:
        pass
    else:
        raise AssertionError("None was accepted")
"""


def test_assert(pool: Pool) -> None:
    right = "def f(x, start=0):\n    return sum(x, start)"
    prompt = 'def f(x, start=0):\n    """Sum."""\n'
    for program, given, status in [
        (right, "", Status.OK),
        (right, prompt, Status.OK),
        (right, "Please write a function f.", Status.OK),
        ("    return sum(x, start)", prompt, Status.OK),
        ("def f(x, start=0):\n    return 3", "", Status.WRONG),
        ("def f(x, start=0):\n    return sum(x or [], start)", "", Status.WRONG),
        ("import os\ndef f(x, start=0):\n    os._exit(0)", "", Status.WRONG),
        ("def f(x, start=0):\n    while True: pass", "", Status.TIMEOUT),
    ]:
        assert _status(pool, _submission("assert", program, given, entry="f", test=CHECK)) is status, program
    assert _status(pool, _submission("assert", right, entry="f", test=["assert f([1]) == 1"])) is Status.OK


def test_tests_that_cannot_judge_are_our_fault(pool: Pool) -> None:
    for test in ("pass", "def check(candidate):\n    syntax error", "import sys\nassert f(sys)", ""):
        assert (
            _status(pool, _submission("assert", "def f(x):\n    return x", entry="f", test=test)) is Status.INFRA_ERROR
        )


def test_identical_programs_run_once_in_a_group_and_across_groups() -> None:
    program = "import random\nprint(random.random())"
    submissions = [_submission("stdio", program, tests=[{"stdin": "", "stdout": "0"}])] * 8
    with Pool(SandboxConfig(workers=2), RewardConfig()) as pool:
        first = pool.score(submissions, 60)
        again = pool.score(submissions, 60)
    assert len({verdict.seconds for verdict in first + again}) == 1


def test_no_fenced_block_is_no_program_unless_raw(pool: Pool) -> None:
    fenceless = Submission("stdio", SUM, {"tests": TESTS})
    raw = Submission("stdio", SUM, {"tests": TESTS, "raw": True})
    assert _status(pool, fenceless) is Status.UNPARSEABLE
    assert _status(pool, raw) is Status.OK


def test_preloaded_modules_can_be_used() -> None:
    program = "import numpy as np\nprint(int(np.arange(10).sum()), np.linalg.norm([3.0, 4.0]))"
    submission = _submission("stdio", program, tests=[{"stdin": "", "stdout": "45 5.0"}])
    with Pool(SandboxConfig(workers=1, preload=("numpy",)), RewardConfig()) as pool:
        assert _status(pool, submission) is Status.OK
    with Pool(SandboxConfig(workers=1, importable=()), RewardConfig()) as pool:
        assert _status(pool, submission) is Status.WRONG


def test_unsafe_is_recorded_in_every_verdict() -> None:
    with Pool(SandboxConfig(workers=1, unsafe=True), RewardConfig()) as pool:
        [verdict] = pool.score([_submission("stdio", SUM, tests=TESTS)], 60)
    assert (verdict.status, verdict.unsafe) == (Status.OK, True)
