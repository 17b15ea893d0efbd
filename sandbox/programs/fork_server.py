"""The pool's side of one fork server: start it, fork children from it, kill and reap them. Nothing waits for ever."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import launch
from sandbox.config import SandboxConfig
from sandbox.descriptors import sealed
from sandbox.errors import WorkerDiedError, WorkerStartError
from sandbox.jail.fork_server import ENDED, MAX_PACKET, REQUEST, STARTED

REAP_SECONDS = 10.0
_FDS, _FD = struct.Struct("5i"), struct.Struct("i")
_ONE_FD = socket.CMSG_SPACE(_FD.size)

_BOOT = """\
import sys, types
# Room for all objects in one stretch, of which huge pages can be made: imports would leave it between libraries.
stretch = [bytes(464) for _ in range(12 * 1024)]
kept = stretch[::1000]
del stretch
# A bare package object in place of sandbox/__init__.py keeps the fork server free of everything but sandbox.jail.
package = types.ModuleType("sandbox")
package.__path__ = [sys.argv[1]]
sys.modules["sandbox"] = package
sys.path.extend(path for path in sys.argv[4].split(":") if path)
from sandbox.jail.fork_server import main
main(int(sys.argv[2]), sys.argv[3])
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """How a child ended.

    Attributes:
        status: wait status as `os.waitpid` gives it.
        cpu_seconds: CPU time of all its threads.
        peak_bytes: largest resident size.
    """

    status: int
    cpu_seconds: float
    peak_bytes: int


class ProgramForkServer:
    """One fork server process. Not thread-safe: one thread leases it at a time.

    Args:
        config: limits.
        uid: user of its children, where it may choose one.
        tests: whether its children run tests as well, and programs under tests.
        source: a directory with input files, where its children start; "": they start in the root directory.
        scratch_bytes: size of the directory to write to that its children get instead, where that is possible.

    Attributes:
        directory: a descriptor of the directory that its children write to, or None if there is none.

    Raises:
        WorkerStartError: it was not ready within `config.start_seconds`.
    """

    def __init__(
        self, config: SandboxConfig, uid: int, source: str = "", scratch_bytes: int = 0, *, tests: bool = False
    ) -> None:
        self.uid = uid
        self.directory: int | None = None
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = {
            "preload": list(config.preload),
            "importable": list(config.importable),
            "uid": uid,
            "enforce": not config.unsafe,
            "source": source,
            "scratch_bytes": scratch_bytes,
            "tests": tests,
        }
        path = ":".join(launch.import_path()[1:]) if config.preload or config.importable else ""
        arguments = [str(Path(__file__).resolve().parents[1]), str(theirs.fileno()), json.dumps(settings), path]
        try:
            with theirs:
                # -S: no site-packages, so that programs find the standard library and nothing else.
                self._process = launch.interpreter(["-I", "-S"], _BOOT, arguments, theirs.fileno(), bind_now=True)
        except OSError as error:
            self._control.close()
            raise WorkerStartError(f"cannot start an interpreter: {error}; check process and memory limits") from error
        try:
            self._control.settimeout(config.start_seconds)
            packet, fds = self._receive()
            self.layers: dict[str, Any] = json.loads(packet)
            self.directory = fds[0] if fds else None
            self._control.settimeout(REAP_SECONDS)
        except WorkerDiedError as error:
            raise WorkerStartError(
                f"a fork server was not ready within {config.start_seconds} s ({error}); raise start_seconds or check "
                f"that every module of preload={config.preload} can be imported"
            ) from error

    @property
    def pid(self) -> int:
        """Process id, for tests and metrics."""
        return self._process.pid

    def fork(self, job: bytes, stdin: int, stdout: int, stderr: int, result: int, memory: int, cpu: int) -> Child:
        """A new locked-down child that does `job`. The caller keeps its descriptors.

        Args:
            job: see `sandbox.jail.harness`.
            stdin, stdout, stderr, result: descriptors.
            memory: address space, bytes.
            cpu: CPU time, seconds.

        Raises:
            WorkerDiedError: the fork server did not answer; it is dead now.
        """
        job_fd = sealed(job)
        try:
            self._send(REQUEST.pack(b"fork", memory, cpu), (stdin, stdout, stderr, job_fd, result))
        finally:
            os.close(job_fd)
        reply, fds = self._receive()
        (pid,) = STARTED.unpack(reply)
        if pid <= 0 or len(fds) != 1:
            for fd in fds:
                os.close(fd)
            raise self._dead(f"fork: {os.strerror(-pid)}")
        return Child(self, pid, fds[0])

    def reap(self, pid: int) -> Usage:
        """Collect a child that has ended or was killed.

        Raises:
            WorkerDiedError: the fork server did not answer; it is dead now.
        """
        self._send(REQUEST.pack(b"reap", pid, 0))
        reply, _ = self._receive()
        return Usage(*ENDED.unpack(reply))

    def close(self) -> None:
        """End the fork server and with it every child; harmless if it is dead already."""
        if self.directory is not None:
            os.close(self.directory)
            self.directory = None
        self._control.close()
        launch.end(self._process)

    def kill(self) -> None:
        """End the fork server while another thread uses it: that thread finds it dead, and closes it."""
        launch.end(self._process)

    def _send(self, packet: bytes, fds: tuple[int, ...] = ()) -> None:
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FDS.pack(*fds))] if fds else []
            self._control.sendmsg([packet], rights)
        except OSError as error:
            raise self._dead(str(error)) from error

    def _receive(self) -> tuple[bytes, list[int]]:
        """The next packet and the descriptor that came with it, if one did."""
        try:
            packet, ancillary, _, _ = self._control.recvmsg(MAX_PACKET, _ONE_FD)
        except OSError as error:
            raise self._dead(str(error) or "no answer") from error
        if not packet:
            raise self._dead("connection closed")
        return packet, [_FD.unpack(data)[0] for _, _, data in ancillary]

    def _dead(self, reason: str) -> WorkerDiedError:
        self.close()
        return WorkerDiedError(f"the fork server is gone ({reason})")


class Child:
    """A running child and its pidfd."""

    def __init__(self, fork_server: ProgramForkServer, pid: int, pidfd: int) -> None:
        self._fork_server = fork_server
        self.pid = pid
        self.pidfd = pidfd

    def reap(self) -> Usage:
        """Kill the child if it lives, and collect it.

        Raises:
            WorkerDiedError: the fork server is gone.
        """
        # A descriptor closed twice could be another thread's by then.
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd < 0:
            raise WorkerDiedError("the child was reaped before")
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
        return self._fork_server.reap(self.pid)
