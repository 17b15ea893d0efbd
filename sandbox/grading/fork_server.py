"""The pool's side of a grader fork server.

That is a process with everything imported which forks the workers of one verifier, so that a killed worker is replaced
in milliseconds and not in the seconds that importing an algebra system takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from dataclasses import dataclass
from typing import Any

from sandbox import launch
from sandbox.config import SandboxConfig
from sandbox.errors import WorkerDiedError, WorkerStartError
from sandbox.registry import RegisteredVerifier

# Forking and reaping take milliseconds; this only bounds a fork server that was stopped.
REPLY_SECONDS = 10.0
_MAX_PACKET = 4096
# A check on a busy machine may take this many times its deadline; then the worker ends itself.
PATIENCE = 5

_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from sandbox.grading.worker_process import main
main(sys.argv[2])
"""


@dataclass(frozen=True, slots=True)
class Forked:
    """A new worker process.

    Attributes:
        pid: its process id.
        pidfd: a descriptor of the process; the receiver closes it.
        connection: where it takes requests.
    """

    pid: int
    pidfd: int
    connection: socket.socket


class GraderForkServer:
    """A process with everything imported that the workers of one verifier need. Thread-safe.

    Raises:
        WorkerStartError: it was not ready within `config.start_seconds`.
    """

    def __init__(self, config: SandboxConfig, verifier: RegisteredVerifier) -> None:
        self._lock = threading.RLock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = {
            "fd": theirs.fileno(),
            "modules": [*verifier.warm_up, verifier.function.__module__],
            "memory_bytes": config.grader_memory_bytes,
            "check_seconds": config.grader_seconds * PATIENCE,
            "uid": config.uid_base - 1,
            "enforce": not config.unsafe,
        }
        arguments = [json.dumps(launch.import_path()), json.dumps(settings)]
        try:
            with theirs:
                # -I: neither PYTHON* variables nor the current directory reach the worker.
                self._process = launch.interpreter(["-I"], _BOOT, arguments, theirs.fileno())
        except OSError as error:
            self._control.close()
            raise WorkerStartError(f"cannot start an interpreter: {error}; check process and memory limits") from error
        try:
            reply, _ = self._receive(config.start_seconds)
        except WorkerDiedError as error:
            raise WorkerStartError(
                f"a worker for {verifier.name!r} was not ready within {config.start_seconds} s ({error}); "
                "raise start_seconds, or see whether its modules can be imported"
            ) from error
        if "ready" not in reply:
            self.close()
            raise WorkerStartError(f"a worker for {verifier.name!r} could not start: {reply.get('failure')}")

    def fork(self) -> Forked:
        """A new worker.

        Raises:
            WorkerDiedError: the fork server did not answer; it is dead now.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._lock:
                reply, fds = self._ask({"fork": True}, [theirs.fileno()])
            if "pid" not in reply or len(fds) != 1:
                for fd in fds:
                    os.close(fd)
                raise self._dead(str(reply.get("failure", "malformed reply")))
        except BaseException:
            ours.close()
            raise
        return Forked(int(reply["pid"]), fds[0], ours)

    def reap(self, pid: int) -> int | None:
        """Wait status of a worker that has ended or was killed; None if the fork server is gone, and so the worker."""
        with self._lock, contextlib.suppress(WorkerDiedError):
            reply, _ = self._ask({"reap": pid}, [])
            return int(reply["status"])
        return None

    def close(self) -> None:
        """End the fork server and with it every worker; harmless if it is dead already. Its users find it dead."""
        launch.end(self._process)
        with self._lock:
            self._control.close()

    def _ask(self, request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        try:
            self._control.settimeout(REPLY_SECONDS)
            socket.send_fds(self._control, [json.dumps(request).encode()], fds)
        except OSError as error:
            raise self._dead(str(error)) from error
        return self._receive(REPLY_SECONDS)

    def _receive(self, seconds: float) -> tuple[dict[str, Any], list[int]]:
        try:
            self._control.settimeout(seconds)
            packet, fds, _, _ = socket.recv_fds(self._control, _MAX_PACKET, 1)
        except OSError as error:
            raise self._dead(str(error) or "no answer") from error
        if not packet:
            raise self._dead("connection closed")
        return json.loads(packet), list(fds)

    def _dead(self, reason: str) -> WorkerDiedError:
        self.close()
        return WorkerDiedError(f"the fork server of a grader worker is gone ({reason})", signal=signal.SIGKILL)
