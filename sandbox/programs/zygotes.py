"""The pool's side of a zygote: start it, fork children from it, watch, kill and reap them. Nothing waits for ever."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import launch
from sandbox.config import SandboxConfig
from sandbox.descriptors import Descriptors, sealed
from sandbox.errors import WorkerDiedError, WorkerStartError
from sandbox.jail.zygote import ENDED, LOCKED, MAX_PACKET, REQUEST, STARTED

REAP_SECONDS = 10.0
MAX_ERROR_BYTES = 64 * 1024
_CHUNK = 1 << 16
_UNWATCHED_MILLISECONDS = 10.0
_FDS, _FD = struct.Struct("5i"), struct.Struct("i")
_ONE_FD = socket.CMSG_SPACE(_FD.size)

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

    Args:
        config: limits.
        uid: user of its children, where it may choose one.
        source: a directory with input files, where its children start; "": they start in the root directory.
        scratch_bytes: size of the directory to write to that its children get instead, where that is possible.

    Attributes:
        directory: a descriptor of the directory that its children write to, or None if there is none.

    Raises:
        WorkerStartError: it was not ready within `config.start_seconds`.
    """

    def __init__(self, config: SandboxConfig, uid: int, source: str = "", scratch_bytes: int = 0) -> None:
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
            self.walls: dict[str, Any] = json.loads(packet)
            self.directory = fds[0] if fds else None
            self._control.settimeout(REAP_SECONDS)
        except WorkerDiedError as error:
            raise WorkerStartError(
                f"a zygote was not ready within {config.start_seconds} s ({error}); raise start_seconds or check "
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
            WorkerDiedError: the zygote did not answer; it is dead now.
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
            WorkerDiedError: the zygote did not answer; it is dead now.
        """
        self._send(REQUEST.pack(b"reap", pid, 0))
        reply, _ = self._receive()
        return Usage(*ENDED.unpack(reply))

    def close(self) -> None:
        """End the zygote and with it every child; harmless if it is dead already."""
        if self.directory is not None:
            os.close(self.directory)
            self.directory = None
        self._control.close()
        launch.end(self._process)

    def kill(self) -> None:
        """End the zygote while another thread uses it: that thread finds it dead, and closes it."""
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
        return WorkerDiedError(f"the zygote is gone ({reason})")


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
        memory = int(job.get("memory_bytes", config.memory_bytes))
        body = json.dumps(job).encode("ascii")
        with contextlib.ExitStack() as stack:
            stack.callback(self._close_pipes)
            theirs = stack.enter_context(Descriptors())
            source = theirs.add(sealed(stdin)) if stdin is not None else self._input_pipe(theirs)
            out, err = (
                (self._pipe(theirs, config.output_bytes), self._pipe(theirs, MAX_ERROR_BYTES))
                if streams
                else (theirs.null(), theirs.null())
            )
            result = self._pipe(theirs, config.output_bytes + len(LOCKED))
            readers = list(self._buffers)
            self.stdout_fd, self.stderr_fd, self.result_fd = readers if streams else (-1, -1, readers[0])
            self._child = zygote.fork(body, source, out, err, result, memory, self.cpu_limit)
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
        if self._open and self._usage is None:
            # Most runs are over before their output fills a pipe: woken once, not for every line.
            ended = select.poll()
            ended.register(self._child.pidfd, select.POLLIN)
            ended.poll(min(_UNWATCHED_MILLISECONDS, self._milliseconds()))
        while self._open and self._step():
            pass
        return self.finish()

    def read_line(self) -> bytes | None:
        """The next line of the result, or None if there will be none."""
        buffer = self._buffers[self.result_fd]
        while (end := buffer.find(b"\n")) < 0:
            if not self._step():
                self._drain(self.result_fd)
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
        return self._child.pidfd not in ready

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

    def _pipe(self, theirs: Descriptors, cap: int) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        self._open.append(reader)
        self._buffers[reader] = bytearray()
        self._caps[reader] = cap
        self._poll.register(reader, select.POLLIN)
        return theirs.add(writer)

    def _input_pipe(self, theirs: Descriptors) -> int:
        reader, self._stdin = os.pipe2(os.O_CLOEXEC)
        self._open.append(self._stdin)
        os.set_blocking(self._stdin, False)
        return theirs.add(reader)

    def _close_pipes(self) -> None:
        while self._open:
            os.close(self._open.pop())
        self._stdin = None
