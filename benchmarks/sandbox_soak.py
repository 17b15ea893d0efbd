"""Thousands of mixed programs, some hostile, while processes are killed at random: nothing may be lost or left.

`python -m benchmarks.sandbox_soak 10000`
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

GROUP = 8
# As often as the replay would issue a group again before it gives it up.
ROUNDS = 20
_PAGE = os.sysconf("SC_PAGE_SIZE")

_HOSTILE = (
    "while True: pass",
    "import os\nwhile True: os.fork()",
    "a = []\nwhile True: a.append(bytearray(1 << 20))",
    "while True: print('x' * 65536)",
    "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos._exit(0)",
    "import ctypes\nctypes.string_at(0)",
    "print(open('/etc/passwd').read())",
)


@dataclass(frozen=True, slots=True)
class Report:
    """What a soak found; all but the first four and the memory must be 0 or empty.

    Attributes:
        programs: how many were scored.
        seconds: wall time.
        killed: processes of the pool killed from outside.
        retried: verdicts that were infra_error and asked for again.
        lost: programs without a verdict after all rounds.
        false: verdicts that differ from what the program deserves.
        processes_left, descriptors_left, threads_left: of the pool, after it was closed.
        files_left: new entries of the temporary directory.
        memory_growth_bytes: of this process, from the first quarter to the end.
    """

    programs: int
    seconds: float
    killed: int
    retried: int
    lost: int
    false: list[str]
    processes_left: int
    descriptors_left: int
    threads_left: int
    files_left: list[str]
    memory_growth_bytes: int


def soak(programs: int, *, seed: int = 0, kill_every_seconds: float = 4.0, workers: int = 2) -> Report:
    """Score `programs` programs in groups while processes of the pool are killed at random."""
    rng = random.Random(seed)
    descriptors, threads, files = _descriptors(), threading.active_count(), set(_temporary_files())
    started, stop = time.monotonic(), threading.Event()
    config = SandboxConfig(workers=workers, test_seconds=2.0, cpu_seconds=2.0, memory_bytes=64 << 20, cache_entries=64)
    outcomes: Counter[str] = Counter()
    false: list[str] = []
    early = 0
    with Pool(config, RewardConfig()) as pool:
        killer = _Killer(stop, kill_every_seconds, random.Random(seed + 1))
        killer.start()
        for first in range(0, programs, GROUP):
            group = [_program(rng, number) for number in range(first, min(first + GROUP, programs))]
            _score_group(pool, group, outcomes, false)
            if first <= programs // 4:
                early = _resident_bytes()
        stop.set()
        killer.join(30)
        growth = _resident_bytes() - early
    return Report(
        programs=programs,
        seconds=time.monotonic() - started,
        killed=killer.killed,
        retried=outcomes["retried"],
        lost=outcomes["lost"],
        false=false,
        processes_left=len(_descendants()),
        descriptors_left=_descriptors() - descriptors,
        threads_left=threading.active_count() - threads,
        files_left=sorted(set(_temporary_files()) - files),
        memory_growth_bytes=growth,
    )


def _score_group(pool: Pool, group: list[tuple[Submission, bool]], outcomes: Counter[str], false: list[str]) -> None:
    """Score a group until every member has a verdict of its own, as the replay does."""
    open_ = group
    for _ in range(ROUNDS):
        verdicts = pool.score([submission for submission, _ in open_], 120)
        again = []
        for (submission, right), verdict in zip(open_, verdicts, strict=True):
            if verdict.status is Status.INFRA_ERROR:
                again.append((submission, right))
            elif (verdict.status is Status.OK) != right:
                false.append(f"{verdict.status}: {verdict.detail}: {submission.response[:200]}")
        outcomes["retried"] += len(again)
        open_ = again
        if not open_:
            return
    outcomes["lost"] += len(open_)


def _program(rng: random.Random, number: int) -> tuple[Submission, bool]:
    """A program and whether it is right: 5 % hostile, a quarter of the others wrong, every kind of task."""
    draw = rng.random()
    if draw < 0.05:
        source = f"{rng.choice(_HOSTILE)}\n# {number}\n"
        return Submission("stdio", f"```python\n{source}```", {"tests": [{"stdin": "", "stdout": str(number)}]}), False
    right = rng.random() < 0.75
    wanted = number if right else number + 1
    if draw < 0.4:
        source, reference = (
            f"def f(x):\n    return x + {number}\n",
            {"entry": "f", "tests": [[[0], wanted], [[1], wanted + 1]]},
        )
        return Submission("function", f"```python\n{source}```", reference), right
    if draw < 0.5:
        source, reference = (
            f"def f(x):\n    return x + {number}\n",
            {"entry": "f", "test": f"assert f(0) == {wanted}\n"},
        )
        return Submission("assert", f"```python\n{source}```", reference), right
    if draw < 0.6:
        return Submission("math", f"\\boxed{{x + {number}}}", {"answer": f"{wanted} + x"}), right
    source = f"print(int(input()) + {number})\n"
    return Submission("stdio", f"```python\n{source}```", {"tests": [{"stdin": "0\n", "stdout": str(wanted)}]}), right


class _Killer(threading.Thread):
    """Kills a random process of the pool now and then."""

    def __init__(self, stop: threading.Event, every_seconds: float, rng: random.Random) -> None:
        super().__init__(name="killer")
        self.killed = 0
        self._stopped = stop
        self._every = every_seconds
        self._rng = rng

    def run(self) -> None:
        while not self._stopped.wait(self._rng.expovariate(1 / self._every)):
            victims = sorted(_descendants())
            if victims:
                with suppress(OSError):
                    os.kill(self._rng.choice(victims), signal.SIGKILL)
                    self.killed += 1


def _descendants() -> set[int]:
    found: set[int] = set()
    pending = [os.getpid()]
    while pending:
        for listing in Path(f"/proc/{pending.pop()}/task").glob("*/children"):
            with suppress(OSError):
                children = set(map(int, listing.read_text().split())) - found
                found |= children
                pending += children
    return found


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _temporary_files() -> list[str]:
    return [entry.name for entry in Path("/tmp").iterdir() if entry.name.startswith("leeway-canary-")]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


if __name__ == "__main__":
    print(json.dumps(asdict(soak(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)), indent=2))
