"""Programs judged by tests that assert, as a user of the sandbox would have them judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

#: Judges a program by a test; the arguments are the program, the test, and the name that is tested (`f`).
Judge = Callable[..., Status]
#: A program that squares, and one that squares only two.
RIGHT = "def f(x): return x * x"
WRONG = "def f(x): return 4"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(SandboxConfig(workers=2, test_seconds=60.0, cpu_seconds=30.0), RewardConfig()) as made:
        yield made


@pytest.fixture(scope="module")
def judge(pool: Pool) -> Judge:
    def status_of(program: str, test: str, entry: str = "f") -> Status:
        [verdict] = pool.score([Submission("assert", program, {"raw": True, "entry": entry, "test": test})], 120)
        return verdict.status

    return status_of
