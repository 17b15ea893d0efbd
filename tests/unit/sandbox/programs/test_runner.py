"""Runs that something from outside ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission


def test_a_program_killed_from_outside_is_run_again() -> None:
    submission = Submission(
        "stdio", "```python\nimport time\ntime.sleep(0.5)\nprint(1)\n```", {"tests": [{"stdin": "", "stdout": "1"}]}
    )
    with Pool(SandboxConfig(workers=1), RewardConfig()) as pool:
        pool.score([submission], 30)
        victims = _children()
        assert victims
        os.kill(next(iter(victims)), signal.SIGKILL)
        again = Submission("stdio", submission.response + "\n", submission.reference)
        [verdict] = pool.score([again], 30)
    assert verdict.status is Status.OK


def _children() -> set[int]:
    return {int(pid) for listing in Path("/proc/self/task").glob("*/children") for pid in listing.read_text().split()}
