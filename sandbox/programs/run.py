"""One job from fork to end: its pipes, its deadline, its caps. Every wait ends at the deadline."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import time
from typing import Any

from sandbox.config import SandboxConfig
from sandbox.descriptors import Descriptors, sealed
from sandbox.errors import WorkerDiedError
from sandbox.jail.fork_server import LOCKED
from sandbox.programs.fork_server import ProgramForkServer, Usage

MAX_ERROR_BYTES = 64 * 1024
_CHUNK = 1 << 16
_UNWATCHED_MILLISECONDS = 10.0


class Run:
    """One job from fork to end: its pipes, its deadline, its caps. Use as a context manager.

    Args:
        fork_server: where to fork.
        job: see `sandbox.jail.harness`.
        stdin: what the program reads, or None for a pipe that `write` feeds.
        seconds: wall-clock limit.
        streams: keep stdout and stderr; otherwise they go to /dev/null.

    Raises:
        WorkerDiedError: the fork server is gone.
    """

    def __init__(
        self,
        fork_server: ProgramForkServer,
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
            self._child = fork_server.fork(body, source, out, err, result, memory, self.cpu_limit)
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
        while view:
            try:
                view = view[os.write(self._stdin, view[:_CHUNK]) :]
            except BlockingIOError:
                if not self._writable():
                    return False
            except BrokenPipeError:
                return False
        return True

    def _writable(self) -> bool:
        """Wait until the child reads its stdin; False if it ends or the deadline passes."""
        assert self._stdin is not None
        waiting = select.poll()
        waiting.register(self._stdin, select.POLLOUT)
        waiting.register(self._child.pidfd, select.POLLIN)
        ready = dict(waiting.poll(self._milliseconds()))
        return self._stdin in ready and not ready[self._stdin] & (select.POLLERR | select.POLLHUP)

    def finish(self) -> Usage:
        """Kill what is left of the child, read what it left in its pipes, and release everything. Idempotent.

        Raises:
            WorkerDiedError: the fork server is gone, and with it what is known about the child.
        """
        if self._usage is None:
            if not self._open:
                raise WorkerDiedError("the fork server is gone")
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
