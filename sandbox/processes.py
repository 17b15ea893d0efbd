"""Starts answer workers and talks to them; every wait has a deadline and ends in SIGKILL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from sandbox import frames
from sandbox.config import SandboxConfig
from sandbox.errors import WorkerDiedError, WorkerStartError, WorkerTimeoutError

KILL_SECONDS = 5.0

_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[3])
from sandbox.worker import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""


def import_path() -> list[str]:
    """`sys.path` for a child: this process's own, absolute, with the directory this package was imported from first."""
    root = str(Path(__file__).resolve().parent.parent)
    return [root, *(str(Path(entry).resolve()) for entry in sys.path if entry and entry != root)]


def environment() -> dict[str, str]:
    """The environment of a child: nothing of ours leaks into it, and numeric libraries stay on one thread."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent", "PYTHONHASHSEED": "0", **one_thread}


class AnswerWorker:
    """One worker process for isolated verifiers. Not thread-safe: one thread leases it at a time.

    Raises:
        WorkerStartError: it was not ready within `config.start_seconds`.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._imported: set[str] = set()
        self.checks = 0
        self._connection, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    # -I: neither PYTHON* variables nor the current directory reach the worker.
                    [sys.executable, "-I", "-c", _BOOT, *self._arguments(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=environment(),
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as error:
            self._connection.close()
            raise WorkerStartError(
                f"cannot start {sys.executable}: {error}; check process and memory limits"
            ) from error
        try:
            self._exchange(None, time.monotonic() + config.start_seconds)
        except (WorkerTimeoutError, WorkerDiedError) as error:
            raise WorkerStartError(
                f"an answer worker was not ready within {config.start_seconds} s ({error}); "
                "raise start_seconds or look for a broken installation of sandbox"
            ) from error

    def _arguments(self, fd: int) -> list[str]:
        return [str(fd), str(self._config.answer_memory_bytes), json.dumps(import_path())]

    @property
    def pid(self) -> int:
        """Process id, for tests and metrics."""
        return self._process.pid

    def prepare(self, modules: tuple[str, ...]) -> None:
        """Import `modules` in the worker, within the start-up deadline.

        Raises:
            WorkerStartError: an import failed or took too long; the worker is dead if it took too long.
        """
        missing = [module for module in modules if module not in self._imported]
        if not missing:
            return
        request = frames.encode({"import": missing, "seconds": self._config.start_seconds})
        try:
            reply = self._exchange(request, time.monotonic() + self._config.start_seconds)
        except (WorkerTimeoutError, WorkerDiedError) as error:
            raise WorkerStartError(f"importing {', '.join(missing)} in a worker failed: {error}") from error
        if "failure" in reply:
            raise WorkerStartError(str(reply["failure"]))
        self._imported.update(missing)

    def call(self, request: bytes, seconds: float) -> dict[str, Any]:
        """Send one request frame and wait for its reply.

        Raises:
            WorkerTimeoutError: no reply within `seconds`; the worker has been killed.
            WorkerDiedError: it ended by itself.
        """
        self.checks += 1
        return self._exchange(request, time.monotonic() + seconds)

    def _exchange(self, request: bytes | None, deadline: float) -> dict[str, Any]:
        try:
            if request is not None:
                frames.send(self._connection, request, deadline)
            reply = frames.receive(self._connection, deadline)
        except TimeoutError:
            self.kill()
            raise WorkerTimeoutError("deadline passed; the worker was killed") from None
        except (OSError, frames.FrameError) as error:
            raise self._died(str(error)) from error
        if reply is None:
            raise self._died("connection closed")
        return reply

    def _died(self, reason: str) -> WorkerDiedError:
        # It may have closed its socket an instant before it is gone; its own exit status is the better explanation.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        status = self._process.poll()
        self.kill()
        if status is None or status >= 0:
            return WorkerDiedError(f"worker ended ({reason}, exit status {status})")
        return WorkerDiedError(f"worker was ended by {signal.Signals(-status).name}", signal=-status)

    def kill(self) -> None:
        """End the process and release everything; harmless if it is dead already."""
        self._connection.close()
        if self._process.poll() is None:
            # Its session is its own, so the group holds whatever a library of its may have started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(KILL_SECONDS)

    def __enter__(self) -> AnswerWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
