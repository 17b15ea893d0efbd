"""Runs model-written programs: leases zygotes, keeps the canaries fresh, and turns a run into an outcome."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox import metrics
from sandbox.config import SandboxConfig
from sandbox.errors import (
    BadReferenceError,
    DeadlineError,
    FilesError,
    IsolationError,
    PoolClosedError,
    WorkerDiedError,
)
from sandbox.jail.zygote import LOCKED
from sandbox.programs import canaries
from sandbox.programs.files import fetched, laid_out, relative
from sandbox.programs.zygotes import Run, Usage, Zygote
from sandbox.verdict import Status

ATTEMPTS = 3
NO_SCRATCH = (
    "programs cannot write files here: a directory of limited size needs a mount namespace, that is, root with "
    "CAP_SYS_ADMIN or unprivileged user namespaces"
)
_MAX_LINES = 8
# How many user ids from `uid_base` on are ours; the default range ends below 65534, the last id of many containers.
_UIDS = 1500

_BY_EXCEPTION = {
    "MemoryError": Status.MEMORY,
    "SyntaxError": Status.UNPARSEABLE,
    "IndentationError": Status.UNPARSEABLE,
    "TabError": Status.UNPARSEABLE,
    "PermissionError": Status.FORBIDDEN,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program did.

    Attributes:
        ended: how it ended: None for a normal exit with status 0, otherwise why it cannot have passed.
        detail: one line about that.
        stdout, stderr: what it wrote, up to the configured caps, bytes.
        lines: its messages after the lockdown's own.
        exit_code: exit status, or minus the signal that ended it.
        seconds: wall time.
        cpu_seconds: CPU time.
        peak_bytes: largest resident size.
    """

    ended: Status | None
    detail: str
    stdout: bytes
    stderr: bytes
    lines: list[bytes]
    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Zygotes:
    """The zygotes of a pool; each is leased by one thread at a time and started when first needed. Thread-safe."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._idle: list[tuple[int, Zygote]] = []
        self._slots = set(range(config.workers))
        self._free = threading.Semaphore(config.workers)
        self._leased: set[Zygote] = set()
        self._canary_lock = threading.Lock()
        # By whether programs have a directory to write to: the walls are others.
        self._canaries_at = dict.fromkeys((False, True), -float("inf"))
        self._closed = False

    @contextlib.contextmanager
    def lease(self, deadline: float) -> Iterator[Zygote]:
        """A zygote for this thread. One that dies meanwhile is not used again.

        Args:
            deadline: `time.monotonic()` value until which to wait for one to become free.

        Raises:
            DeadlineError: none became free.
            WorkerStartError, IsolationError, PoolClosedError: there is none.
        """
        if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DeadlineError("no zygote became free before the deadline")
        try:
            slot, zygote = self._take()
        except BaseException:
            self._free.release()
            raise
        healthy = False
        try:
            self.probe(zygote)
            yield zygote
            healthy = True
        except (DeadlineError, BadReferenceError, FilesError):
            healthy = True
            raise
        finally:
            self._give_back(slot, zygote, healthy)
            self._free.release()

    def close(self) -> None:
        """End every zygote, and with it every program."""
        with self._lock:
            self._closed = True
            leased, idle = list(self._leased), [zygote for _, zygote in self._idle]
            self._idle.clear()
        for zygote in leased:
            zygote.kill()
        for zygote in idle:
            zygote.close()

    def _take(self) -> tuple[int, Zygote]:
        with self._lock:
            if self._closed:
                raise PoolClosedError("the pool was closed")
            slot, zygote = self._idle.pop() if self._idle else (self._slots.pop(), None)
        try:
            if zygote is None:
                zygote = Zygote(self._config, self._uid(slot))
                metrics.ZYGOTE_STARTS.inc()
        except BaseException:
            with self._lock:
                self._slots.add(slot)
            raise
        with self._lock:
            self._leased.add(zygote)
        return slot, zygote

    def _uid(self, slot: int) -> int:
        """A user for a slot's programs. Limits count by user, so pools of different processes should differ."""
        return self._config.uid_base + (os.getpid() * 37 + slot) % _UIDS

    def _give_back(self, slot: int, zygote: Zygote, healthy: bool) -> None:
        with self._lock:
            self._leased.discard(zygote)
            keep = healthy and not self._closed
            if keep:
                self._idle.append((slot, zygote))
            else:
                self._slots.add(slot)
        if not keep:
            zygote.close()

    def probe(self, zygote: Zygote) -> None:
        """Run the canaries if they are due; the first caller runs them, the others wait for it.

        Raises:
            IsolationError: something leaked.
        """
        kind = zygote.directory is not None
        if self._config.unsafe:
            return
        with self._canary_lock:
            if time.monotonic() - self._canaries_at[kind] < self._config.canary_seconds:
                return
            try:
                canaries.check(zygote, self._config)
            except IsolationError:
                metrics.CANARY_LEAKS.inc()
                raise
            self._canaries_at[kind] = time.monotonic()


class ProgramRunner:
    """What a verifier of programs gets: runs, within the deadline of its check.

    Args:
        zygotes: where to run.
        config: limits.
        deadline: `time.monotonic()` value after which nothing counts any more.
    """

    def __init__(self, zygotes: Zygotes, config: SandboxConfig, deadline: float) -> None:
        self._zygotes = zygotes
        self.config = config
        self._deadline = deadline

    def run(
        self, job: dict[str, Any], stdin: bytes = b"", *, streams: bool = False, seconds: float | None = None
    ) -> Outcome:
        """Run one job to its end.

        Args:
            job: see `sandbox.jail.harness`.
            stdin: what the program reads.
            streams: keep stdout and stderr.
            seconds: wall-clock limit of this run, at most (and by default) `config.test_seconds`.

        Raises:
            DeadlineError: the deadline of the check passed; not the program's fault.
            WorkerDiedError: it was killed from outside, repeatedly.
            WorkerStartError, IsolationError, PoolClosedError: nothing can be run.
        """
        if self.config.scratch_bytes > 0:
            return self.run_with_files(job, stdin, {}, (), streams=streams, seconds=seconds)[0]
        died: WorkerDiedError | None = None
        for _ in range(ATTEMPTS):
            try:
                with self._zygotes.lease(self._deadline) as zygote:
                    limit, ours = self.limit(seconds)
                    with Run(zygote, job, self.config, stdin, limit, streams) as run:
                        usage = run.wait()
                        if run.killed == "deadline" and ours:
                            raise DeadlineError("the deadline passed while a program ran")
                        return outcome_of(run, usage, limit)
            except WorkerDiedError as error:
                died = error
        assert died is not None
        raise died

    def run_with_files(
        self,
        job: dict[str, Any],
        stdin: bytes,
        files: Mapping[str, bytes],
        fetch: Sequence[str],
        *,
        streams: bool = True,
        seconds: float | None = None,
    ) -> tuple[Outcome, dict[str, bytes]]:
        """Run one job in a directory of its own with `files`, and give back those of `fetch` that it leaves.

        A zygote is started for it and ended with it, so nothing of the directory outlives it. Arguments else as `run`.

        Raises:
            FilesError: a path or size is not allowed, or files are to be fetched where programs cannot write any.
            DeadlineError, WorkerDiedError, WorkerStartError, IsolationError, PoolClosedError: as `run`.
        """
        size = max(self.config.scratch_bytes, self.config.files_bytes)
        for name in fetch:
            relative(name)
        with self._own_zygote(files, size) as zygote:
            if fetch and zygote.directory is None:
                raise FilesError(NO_SCRATCH)
            if files and not (zygote.walls["landlock"] or self.config.unsafe):
                raise FilesError("programs can open no files here: this kernel has no Landlock (Linux 5.13)")
            limit, ours = self.limit(seconds)
            with Run(zygote, job, self.config, stdin, limit, streams) as run:
                usage = run.wait()
                if run.killed == "deadline" and ours:
                    raise DeadlineError("the deadline passed while a program ran")
                outcome = outcome_of(run, usage, limit)
            return outcome, {} if zygote.directory is None else fetched(zygote.directory, fetch, size)

    def can_write(self) -> bool:
        """Whether programs can have a directory to write to here. Raises like `run`."""
        with self._own_zygote({}, self.config.files_bytes) as zygote:
            return zygote.directory is not None

    def isolation(self) -> str:
        """What keeps programs in, in words, once the canaries have found no hole. Raises like `run`."""
        with self._zygotes.lease(self._deadline) as zygote:
            walls = zygote.walls
        if self.config.unsafe:
            return "none (unsafe: true)"
        own = {"": "", "namespaces": ", namespaces"}.get(walls["own"], ", namespaces, a root of its own")
        user = "" if walls["uid"] is None else ", a user of its own"
        return f"{'Landlock, ' if walls['landlock'] else 'no files at all, '}seccomp, limits{own}{user}"

    @contextlib.contextmanager
    def _own_zygote(self, files: Mapping[str, bytes], scratch_bytes: int) -> Iterator[Zygote]:
        """A zygote for one run, whose children start in a directory with `files`."""
        with (
            laid_out(files, self.config.files_bytes) as source,
            self._zygotes.lease(self._deadline) as leased,
            contextlib.closing(Zygote(self.config, leased.uid, str(source), scratch_bytes)) as zygote,
        ):
            self._zygotes.probe(zygote)
            yield zygote

    @contextlib.contextmanager
    def pair(self) -> Iterator[Zygote]:
        """A zygote for runs that talk to each other. Raises like `run`."""
        with self._zygotes.lease(self._deadline) as zygote:
            yield zygote

    def limit(self, seconds: float | None = None) -> tuple[float, bool]:
        """Seconds a run may take, and whether the check's own deadline is what limits it.

        Raises:
            DeadlineError: that deadline has passed.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DeadlineError("the deadline passed before all tests had run")
        wanted = min(self.config.test_seconds, seconds or self.config.test_seconds)
        return min(left, wanted), left < wanted


def outcome_of(run: Run, usage: Usage, limit: float) -> Outcome:
    """The outcome of a finished run.

    Raises:
        WorkerDiedError: it was killed from outside.
        IsolationError: the child could not lock itself down; nothing of the program has run.
    """
    rest = run.output(run.result_fd)
    locked = run.first_line
    if locked is None:
        locked, _, rest = rest.partition(b"\n")
    code = os.waitstatus_to_exitcode(usage.status)
    if locked + b"\n" != LOCKED and not run.killed:
        if locked.startswith(b'{"unlocked"'):
            raise IsolationError(f"a child could not lock itself down: {locked.decode(errors='replace')[:300]}")
        raise WorkerDiedError(f"a child ended before it was locked down (status {code})")
    # Honest children send one or two lines; a flood of empty ones must not become millions of objects.
    lines = rest.split(b"\n", _MAX_LINES)[:-1]
    ended, detail = _ending(run, usage, code, lines, limit)
    if run.killed or code < 0:
        metrics.KILLS.labels("deadline" if ended is Status.TIMEOUT else "limit").inc()
    stdout, stderr = run.output(run.stdout_fd), run.output(run.stderr_fd)
    return Outcome(ended, detail, stdout, stderr, lines, code, run.wall_seconds, usage.cpu_seconds, usage.peak_bytes)


def _ending(run: Run, usage: Usage, code: int, lines: list[bytes], limit: float) -> tuple[Status | None, str]:
    if run.killed == "deadline":
        return Status.TIMEOUT, f"no result after {limit:.3g} s"
    if run.killed == "output":
        return Status.WRONG, "more output than allowed"
    if code in (-signal.SIGXCPU, -signal.SIGKILL) and usage.cpu_seconds >= 0.9 * run.cpu_limit:
        return Status.TIMEOUT, f"used {usage.cpu_seconds:.3g} s of CPU time"
    if code == -signal.SIGKILL:
        # A program cannot send itself SIGKILL, and we did not: the kernel's OOM killer or an operator did.
        raise WorkerDiedError("a program was killed from outside", signal=signal.SIGKILL)
    if code == -signal.SIGSYS:
        return Status.FORBIDDEN, "made a foreign system call"
    if code < 0:
        return Status.WRONG, f"ended by {signal.Signals(-code).name}"
    name, message = _claimed_error(lines)
    if name:
        return _BY_EXCEPTION.get(name, Status.WRONG), f"{name}: {message}"
    return (None, "") if code == 0 else (Status.WRONG, f"exit status {code}")


def _claimed_error(lines: list[bytes]) -> tuple[str, str]:
    """The exception the child says it ended with. Only ever used to explain a failure."""
    for line in lines[-1:]:
        try:
            end = json.loads(line)["end"]
            return str(end.get("error", ""))[:60], str(end.get("message", ""))[:300]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "", ""
    return "", ""
