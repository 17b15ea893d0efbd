"""`python -m benchmarks` as a user types it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NAMES = (
    "learner",
    "sandbox",
    "soak",
    "human-eval",
    "math",
    "learning",
    "logprobs",
    "weight-faults",
    "overlap",
    "recovery",
    "weights",
    "generation",
    "sandbox-fuzz",
    "ledger",
    "replay",
    "plan",
    "memory",
    "judges",
    "snapshot",
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_every_benchmark_is_listed_and_fits_80_columns() -> None:
    ended = run("--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(re.findall(r"^│ ([a-z][a-z-]*) ", ended.stdout, re.MULTILINE)) == set(NAMES)
    assert max(map(len, ended.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fly"], "fly"),
        (["math", "--json", "/no/such/folder/figures.json"], "figures.json"),
        (["sandbox-fuzz", "values", "--input", "no-such-file"], "no-such-file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
