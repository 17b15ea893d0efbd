"""Programs find what a usual interpreter offers."""

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
