"""Thousands of mixed programs, some hostile, while processes are killed at random: nothing may be lost or left.

`python -m benchmarks soak --programs 10000`
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from benchmarks.processes import Watcher, descendants, descriptors, in_sessions, resident_bytes
from benchmarks.terminal import console
from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

GROUP = 8
# As often as the replay would issue a group again before it gives it up.
ROUNDS = 20
# Children of a killed fork server are killed by the kernel; this bounds the wait until they are gone.
GONE_SECONDS = 10.0

_HOSTILE = (
    "while True: pass",
    "import os\nwhile True: os.fork()",
    "a = []\nwhile True: a.append(bytearray(1 << 20))",
    "while True: print('x' * 65536)",
    "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos._exit(0)",
    "import ctypes\nctypes.string_at(0)",
    "print(open('/etc/passwd').read())",
)
_HOSTILE_ANSWERS = (
    "9^{9^{9^{9^9}}}", "(10^{10^9})!", r"\sum_{n=1}^{10^{12}} \frac{1}{n^3}", "(x+1)^{9999}", r"\frac{" * 120,
    "1,2," * 150, "__import__('os')._exit(0)",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """What a soak found.

    Attributes:
        programs: how many were to be scored.
        verdicts: how many got their final verdict; must equal `programs`.
        groups: how many groups they made up.
        seconds: wall time.
        killed: processes of the pool killed from outside.
        retried: verdicts that were infra_error and asked for again.
        lost: programs without a verdict after all rounds; must be 0.
        false: verdicts that differ from what the program deserves; must be empty.
        processes_left, threads_left: of the pool, after it was closed; must be 0.
        descriptors_left, files_left: what they refer to; must be empty.
        memory_growth_bytes: resident memory of this process, from the first quarter to the end.
        worker_bytes, fork_server_bytes, program_bytes: largest resident memory of one process of each kind.
    """

    programs: int
    verdicts: int
    groups: int
    seconds: float
    killed: int
    retried: int
    lost: int
    false: list[str]
    processes_left: int
    threads_left: int
    descriptors_left: list[str]
    files_left: list[str]
    memory_growth_bytes: int
    worker_bytes: int
    fork_server_bytes: int
    program_bytes: int


def run(json_path: Path | None = None, programs: int = 10_000, seed: int = 0) -> None:
    """Soak, print what was found, and write it to `json_path` if given."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        report = soak(programs, seed=seed, progress=progress)
    table = Table("", "found", title="Soak of the verifier pool", title_justify="left")
    for name, value in asdict(report).items():
        shown = (
            f"{value / 2**20:.0f} MiB" if name.endswith("_bytes") else f"{value:.0f}" if name == "seconds" else value
        )
        table.add_row(name.removesuffix("_bytes").replace("_", " "), str(shown))
    console.print(table)
    if json_path is not None:
        json_path.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")


def soak(
    programs: int,
    *,
    seed: int = 0,
    kill_every_seconds: float = 4.0,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Score `programs` programs in groups while processes of the pool are killed at random."""
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    false: list[str] = []
    early = growth = 0
    # What never ends is ended by its CPU time; the wall clock also runs while a busy machine lets a right program wait.
    config = SandboxConfig(workers=workers, test_seconds=20.0, cpu_seconds=2.0, memory_bytes=64 << 20, cache_entries=64)
    before, threads, started = descriptors(), threading.active_count(), time.monotonic()
    task = progress.add_task("programs", total=programs) if progress else TaskID(0)
    with _own_temporary_directory() as directory:
        with Pool(config, RewardConfig()) as pool, _Killer(kill_every_seconds, random.Random(seed + 1)) as killer:
            for first in range(0, programs, GROUP):
                group = [_program(rng, number) for number in range(first, min(first + GROUP, programs))]
                _score_group(pool, group, outcomes, false)
                killer.groups += 1
                if first <= programs // 4:
                    early = resident_bytes()
                if progress:
                    progress.update(task, completed=first)
            growth = resident_bytes() - early
        files = sorted(entry.name for entry in directory.iterdir())
    gc.collect()  # what a process was asked over may hang on the traceback of its end, in a cycle
    return Report(
        programs=programs,
        verdicts=outcomes["final"],
        groups=-(-programs // GROUP),
        seconds=time.monotonic() - started,
        killed=killer.killed,
        retried=outcomes["retried"],
        lost=outcomes["lost"],
        false=false,
        processes_left=_processes_left(killer.watcher.sessions),
        threads_left=threading.active_count() - threads,
        descriptors_left=[what for fd, what in descriptors().items() if fd not in before],
        files_left=files,
        memory_growth_bytes=growth,
        worker_bytes=killer.watcher.worker_bytes,
        fork_server_bytes=killer.watcher.fork_server_bytes,
        program_bytes=killer.watcher.program_bytes,
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
                continue
            outcomes["final"] += 1
            if (verdict.status is Status.OK) != right:
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
        if rng.random() < 0.2:
            return Submission("math", f"\\boxed{{{rng.choice(_HOSTILE_ANSWERS)}+{number}}}", {"answer": "42x+1"}), False
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
    """Kills a random process of the pool now and then, and has them all watched. A context manager.

    Attributes:
        killed: how many.
        groups: how many were scored; a kill waits for one, or a busy machine would only ever start processes.
        watcher: what it saw of them.
    """

    def __init__(self, every_seconds: float, rng: random.Random) -> None:
        super().__init__(name="killer", daemon=True)
        self.killed = self.groups = 0
        self.watcher = Watcher()
        self._ended = threading.Event()
        self._every = every_seconds
        self._rng = rng

    def __enter__(self) -> _Killer:
        self.watcher.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join(30)
        self.watcher.end()

    def run(self) -> None:
        seen = -1
        while not self._ended.wait(self._rng.expovariate(1 / self._every)):
            if self.groups == seen:
                continue
            seen = self.groups
            self.watcher.sample()
            pool = self.watcher.started()
            victims = sorted(pool.union(*map(descendants, pool)))
            if victims:
                with suppress(OSError):
                    os.kill(self._rng.choice(victims), signal.SIGKILL)
                    self.killed += 1


@contextmanager
def _own_temporary_directory() -> Iterator[Path]:
    """Let everything temporary of this process fall into a new directory, where nobody else's is."""
    usual = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="leeway-soak-") as path:
        # Programs' users must be able to reach what the self-test plants, or it would prove nothing.
        Path(path).chmod(0o755)
        tempfile.tempdir = path
        try:
            yield Path(path)
        finally:
            tempfile.tempdir = usual


def _processes_left(sessions: set[int]) -> int:
    """Processes of the pool that are still there a while after it was closed."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := in_sessions(sessions)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(left)
