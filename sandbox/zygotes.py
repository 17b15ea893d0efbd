"""The pool's side of a zygote: start it, fork children from it, watch, kill and reap them. Nothing waits for ever."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import launch
from sandbox.config import SandboxConfig
from sandbox.errors import WorkerDiedError, WorkerStartError
from sandbox.jail.zygote import LOCKED, MAX_PACKET

REAP_SECONDS = 10.0
MAX_ERROR_BYTES = 64 * 1024
_CHUNK = 1 << 16

_BOOT = """\
import sys, types
# A bare package object in place of sandbox/__init__.py keeps the zygote free of everything but sandbox.jail.
package = types.ModuleType("sandbox")
package.__path__ = [sys.argv[1]]
sys.modules["sandbox"] = package
sys.path.extend(path for path in sys.argv[4].split(":") if path)
from sandbox.jail.zygote import main
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


class Zygote:
    """One zygote process. Not thread-safe: one thread leases it at a time.

    Raises:
        WorkerStartError: it was not ready within `config.start_seconds`.
    """

    def __init__(self, config: SandboxConfig, uid: int) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = {
            "preload": list(config.preload),
            "importable": list(config.importable),
            "uid": uid,
            "enforce": not config.unsafe,
        }
        path = ":".join(launch.import_path()[1:]) if config.preload or config.importable else ""
        arguments = [str(Path(__file__).resolve().parent), str(theirs.fileno()), json.dumps(settings), path]
        try:
            with theirs:
                # -S: no site-packages, so that programs find the standard library and nothing else.
                self._process = launch.interpreter(["-I", "-S"], _BOOT, arguments, theirs.fileno())
        except OSError as error:
            self._control.close()
            raise WorkerStartError(f"cannot start an interpreter: {error}; check process and memory limits") from error
        try:
            self.walls, _ = self._receive(config.start_seconds)
        except WorkerDiedError as error:
            raise WorkerStartError(
                f"a zygote was not ready within {config.start_seconds} s ({error}); raise start_seconds or check "
                f"that every module of preload={config.preload} can be imported"
            ) from error

    @property
    def pid(self) -> int:
        """Process id, for tests and metrics."""
        return self._process.pid

    def fork(self, job: bytes, stdin: int, stdout: int, stderr: int, result: int, limits: dict[str, int]) -> Child:
        """A new locked-down child that does `job`. The caller keeps its descriptors.

        Raises:
            WorkerDiedError: the zygote did not answer; it is dead now.
        """
        job_fd = sealed(job)
        try:
            packet = json.dumps({"fork": limits}).encode()
            self._send(packet, [job_fd, stdin, stdout, stderr, result])
        finally:
            os.close(job_fd)
        reply, fds = self._receive(REAP_SECONDS)
        if "pid" not in reply or len(fds) != 1:
            for fd in fds:
                os.close(fd)
            raise self._dead(str(reply.get("failure", "malformed reply")))
        return Child(self, int(reply["pid"]), fds[0])

    def reap(self, pid: int) -> Usage:
        """Collect a child that has ended or was killed.

        Raises:
            WorkerDiedError: the zygote did not answer; it is dead now.
        """
        self._send(json.dumps({"reap": pid}).encode(), [])
        reply, _ = self._receive(REAP_SECONDS)
        return Usage(int(reply["status"]), float(reply["cpu"]), int(reply["rss"]))

    def close(self) -> None:
        """End the zygote and with it every child; harmless if it is dead already."""
        self._control.close()
        launch.end(self._process)

    def kill(self) -> None:
        """End the zygote while another thread uses it: that thread finds it dead, and closes it."""
        launch.end(self._process)

    def _send(self, packet: bytes, fds: list[int]) -> None:
        try:
            self._control.settimeout(REAP_SECONDS)
            socket.send_fds(self._control, [packet], fds)
        except OSError as error:
            raise self._dead(str(error)) from error

    def _receive(self, seconds: float) -> tuple[dict[str, Any], list[int]]:
        try:
            self._control.settimeout(seconds)
            packet, fds, _, _ = socket.recv_fds(self._control, MAX_PACKET, 4)
        except OSError as error:
            raise self._dead(str(error) or "no answer") from error
        if not packet:
            raise self._dead("connection closed")
        return json.loads(packet), list(fds)

    def _dead(self, reason: str) -> WorkerDiedError:
        self.close()
        return WorkerDiedError(f"the zygote is gone ({reason})")


def sealed(content: bytes) -> int:
    """A memory file that nobody can change any more, positioned at its start."""
    fd = os.memfd_create("leeway", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd


class Child:
    """A running child and its pidfd."""

    def __init__(self, zygote: Zygote, pid: int, pidfd: int) -> None:
        self._zygote = zygote
        self.pid = pid
        self.pidfd = pidfd

    def reap(self) -> Usage:
        """Kill the child if it lives, and collect it.

        Raises:
            WorkerDiedError: the zygote is gone.
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
        return self._zygote.reap(self.pid)


class Run:
    """One job from fork to end: its pipes, its deadline, its caps. Use as a context manager.

    Args:
        zygote: where to fork.
        job: see `sandbox.jail.harness`.
        stdin: what the program reads, or None for a pipe that `write` feeds.
        seconds: wall-clock limit.
        streams: keep stdout and stderr; otherwise they go to /dev/null.

    Raises:
        WorkerDiedError: the zygote is gone.
    """

    def __init__(
        self,
        zygote: Zygote,
        job: dict[str, Any],
        config: SandboxConfig,
        stdin: bytes | None,
        seconds: float,
        streams: bool,
    ) -> None:
        self.started = time.monotonic()
        self.deadline = self.started + seconds
        self.killed = ""
        self.first_line: bytes | None = None
        self._config = config
        self._open: list[int] = []
        self._buffers: dict[int, bytearray] = {}
        self._caps: dict[int, int] = {}
        self._poll = select.poll()
        self._stdin: int | None = None
        self._usage: Usage | None = None
        self.cpu_limit = max(1, math.ceil(min(config.cpu_seconds, seconds)))
        limits = {"memory": int(job.get("memory_bytes", config.memory_bytes)), "cpu": self.cpu_limit}
        body = json.dumps(job).encode("utf-8", "surrogatepass")
        with contextlib.ExitStack() as stack:
            stack.callback(self._close_pipes)
            theirs = stack.enter_context(_Descriptors())
            source = theirs.add(sealed(stdin)) if stdin is not None else self._input_pipe(theirs)
            out, err = (
                (self._pipe(theirs, config.output_bytes), self._pipe(theirs, MAX_ERROR_BYTES))
                if streams
                else (theirs.null(), theirs.null())
            )
            result = self._pipe(theirs, config.output_bytes + len(LOCKED))
            readers = list(self._buffers)
            self.stdout_fd, self.stderr_fd, self.result_fd = readers if streams else (-1, -1, readers[0])
            self._child = zygote.fork(body, source, out, err, result, limits)
            stack.pop_all()
        theirs.close()
        self._poll.register(self._child.pidfd, select.POLLIN)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def output(self, fd: int) -> bytes:
        """What came out of one of the pipes so far."""
        return bytes(self._buffers.get(fd, b""))

    def wait(self) -> Usage:
        """Read everything until the child has ended, was killed at its deadline, or exceeded a cap. Idempotent."""
        while self._open and self._step():
            pass
        return self.finish()

    def read_line(self) -> bytes | None:
        """The next line of the result, or None if there will be none."""
        buffer = self._buffers[self.result_fd]
        while (end := buffer.find(b"\n")) < 0:
            if not self._step():
                end = buffer.find(b"\n")
                if end < 0:
                    return None
                break
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        self.first_line = line if self.first_line is None else self.first_line
        return line

    def write(self, data: bytes) -> bool:
        """Feed the child's stdin; False if it does not read or the deadline passed."""
        assert self._stdin is not None
        view = memoryview(data)
        writable = select.poll()
        writable.register(self._stdin, select.POLLOUT)
        writable.register(self._child.pidfd, select.POLLIN)
        while view:
            ready = dict(writable.poll(self._milliseconds()))
            if self._stdin not in ready or ready[self._stdin] & (select.POLLERR | select.POLLHUP):
                return False
            try:
                view = view[os.write(self._stdin, view[:_CHUNK]) :]
            except (BrokenPipeError, BlockingIOError):
                return False
        return True

    def finish(self) -> Usage:
        """Kill what is left of the child, read what it left in its pipes, and release everything. Idempotent.

        Raises:
            WorkerDiedError: the zygote is gone, and with it what is known about the child.
        """
        if self._usage is None:
            if not self._open:
                raise WorkerDiedError("the zygote is gone")
            try:
                self._usage = self._child.reap()
                for fd in list(self._buffers):
                    self._drain(fd)
            finally:
                self.wall_seconds = time.monotonic() - self.started
                self._close_pipes()
        return self._usage

    def _milliseconds(self) -> float:
        return max(0.0, (self.deadline - time.monotonic()) * 1000)

    def _step(self) -> bool:
        """Wait for the next event and take it in; False when there is nothing more to wait for."""
        ready = dict(self._poll.poll(self._milliseconds()))
        if not ready:
            self.killed = self.killed or "deadline"
            return False
        for fd in ready:
            if fd in self._buffers and not self._read(fd):
                self.killed = "output"
                return False
        # Not EOF but the end of the process is what counts: nobody else may keep a run open.
        if self._child.pidfd in ready:
            for fd in list(self._buffers):
                self._drain(fd)
            return False
        return True

    def _read(self, fd: int) -> bool:
        """Take in one chunk; False if the pipe's cap is exceeded."""
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        buffer = self._buffers[fd]
        if not chunk:
            self._poll.unregister(fd)
            return True
        room = self._caps[fd] - len(buffer)
        buffer += chunk[:room]
        return len(chunk) <= room or fd == self.stderr_fd

    def _drain(self, fd: int) -> None:
        while len(self._buffers[fd]) < self._caps[fd]:
            try:
                chunk = os.read(fd, _CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                return
            self._buffers[fd] += chunk[: self._caps[fd] - len(self._buffers[fd])]

    def _pipe(self, theirs: _Descriptors, cap: int) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        self._open.append(reader)
        self._buffers[reader] = bytearray()
        self._caps[reader] = cap
        self._poll.register(reader, select.POLLIN)
        return theirs.add(writer)

    def _input_pipe(self, theirs: _Descriptors) -> int:
        reader, self._stdin = os.pipe2(os.O_CLOEXEC)
        self._open.append(self._stdin)
        os.set_blocking(self._stdin, False)
        return theirs.add(reader)

    def _close_pipes(self) -> None:
        while self._open:
            os.close(self._open.pop())
        self._stdin = None


class _Descriptors:
    """Descriptors that only the child needs, closed here as soon as it has them."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    def add(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def null(self) -> int:
        return self.add(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def __enter__(self) -> _Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
