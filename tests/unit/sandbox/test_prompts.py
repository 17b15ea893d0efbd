"""Code in a prompt: what reaches the tests, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission
from sandbox.prompts import before_tests, code_of


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(SandboxConfig(workers=1, test_seconds=20.0, cpu_seconds=20.0), RewardConfig()) as made:
        yield made


def _status(pool: Pool, verifier: str, program: str, prompt: str = "", **reference: Any) -> Status:
    [verdict] = pool.score([Submission(verifier, f"```python\n{program}\n```\n", reference, prompt)], 120)
    return verdict.status


def test_helpers_of_a_prompt_reach_the_tests_and_cannot_be_replaced(pool: Pool) -> None:
    prompt = "Write `f`.\n```python\ndef double(x):\n    return 2 * x\n\nprint(f(1))\n```\n"
    assert code_of(prompt).startswith("def double") and "print" not in code_of(prompt)
    assert before_tests("Identity") == ["", ""]
    test = "assert double(f(1)) == 8"
    assert _status(pool, "assert", "def f(a): return 4 * a", prompt, entry="f", test=test) is Status.OK
    cheat = "def double(x): return 8\ndef f(a): return 0"
    assert _status(pool, "assert", cheat, prompt, entry="f", test=test) is Status.WRONG
