"""How child interpreters are started: same import path, nothing else of ours."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

_log = logging.getLogger("sandbox")
#: Longest wait for a process that was killed to be gone (s).
KILL_SECONDS = 5.0


def import_path() -> list[str]:
    """`sys.path` for a child: this process's own, absolute, with the directory this package was imported from first."""
    root = str(Path(__file__).resolve().parent.parent)
    return [root, *(str(Path(entry).resolve()) for entry in sys.path if entry and entry != root)]


def environment() -> dict[str, str]:
    """The environment of a child: nothing of ours leaks into it, and numeric libraries stay on one thread."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent", **one_thread}


def interpreter(
    options: list[str], boot: str, arguments: list[str], fd: int, *, bind_now: bool = False
) -> subprocess.Popen[bytes]:
    """Start an interpreter that inherits `fd`, in a session of its own, with no other stream or variable of ours.

    Args:
        options: of the interpreter.
        boot: source to run.
        arguments: its `sys.argv[1:]`.
        fd: what it inherits.
        bind_now: look up the symbols of shared libraries at once, so that no process it forks has to.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.Popen(
        [sys.executable, *options, "-c", boot, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(fd,),
        env=environment() | ({"LD_BIND_NOW": "1"} if bind_now else {}),
        cwd="/",
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a child interpreter with everything in its session's group, and reap it; harmless if it is dead already.

    One that the kernel does not let die, since it is frozen, say, is left behind: what it was used for goes on.
    """
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        _log.warning(
            "process %d is not gone %g s after it was killed: is it frozen, or does its disk hang? It is left behind",
            process.pid,
            KILL_SECONDS,
        )
