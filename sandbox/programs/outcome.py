"""What a run of a program comes to: how it ended and why it cannot have passed."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

from sandbox import metrics
from sandbox.errors import IsolationError, WorkerDiedError
from sandbox.jail.fork_server import LOCKED
from sandbox.programs.fork_server import Usage
from sandbox.programs.run import Run
from sandbox.verdict import Status

_MAX_LINES = 8

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
    """The exception that the child claims it ended with. Only ever used to explain a failure."""
    for line in lines[-1:]:
        try:
            end = json.loads(line)["end"]
            return str(end.get("error", ""))[:60], str(end.get("message", ""))[:300]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "", ""
    return "", ""
