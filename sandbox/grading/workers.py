"""Grader workers: persistent processes for isolated verifiers. Every wait has a deadline and ends in SIGKILL."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from typing import Any

from sandbox import metrics
from sandbox.config import SandboxConfig
from sandbox.errors import (
    BadReferenceError,
    DeadlineError,
    PoolClosedError,
    WorkerDiedError,
    WorkerTimeoutError,
)
from sandbox.grading import frames
from sandbox.grading.fork_server import PATIENCE, GraderForkServer
from sandbox.registry import RegisteredVerifier
from sandbox.verdict import Grade, Status, Submission

# Signals by which a process ends itself; any other death of a worker came from outside.
_OWN_DEATHS = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS})
_ATTEMPTS = 2
# A reply that has begun to arrive is complete at once; this only bounds a worker that was stopped in mid-reply.
_REPLY_SECONDS = 5.0


class GraderWorker:
    """One worker process for one isolated verifier. Not thread-safe: one thread leases it at a time.

    Raises:
        WorkerDiedError: the fork server is dead.
    """

    def __init__(self, fork_server: GraderForkServer, verifier: str) -> None:
        self.verifier = verifier
        self.checks = 0
        self._fork_server = fork_server
        self._lock = threading.Lock()
        forked = fork_server.fork()
        self.pid, self._pidfd, self._connection = forked.pid, forked.pidfd, forked.connection
        self._status: int | None = None

    def call(self, request: bytes, seconds: float, limit: float) -> dict[str, Any]:
        """Send one request frame and wait for its reply.

        `seconds` is wall time on a machine that has a core to spare. A worker that got less than half of that as CPU
        time is given up to `PATIENCE` times as long, so that a busy machine makes no answer wrong.

        Raises:
            WorkerTimeoutError: no reply; the worker has been killed. `starved` means that it hardly ran at all.
            WorkerDiedError: it ended by itself.
        """
        self.checks += 1
        started, used = time.monotonic(), self._cpu_seconds()
        readable = select.poll()
        readable.register(self._connection, select.POLLIN)
        try:
            frames.send(self._connection, request, started + limit)
        except TimeoutError:
            self.kill()
            raise WorkerTimeoutError("the worker took no request; it was killed", starved=True) from None
        except OSError as error:
            raise self._died(str(error)) from error
        wait, last = min(seconds, limit), started + min(PATIENCE * seconds, limit)
        while True:
            if readable.poll(max(0.0, wait) * 1000):
                return self._reply(time.monotonic() + _REPLY_SECONDS)
            wait = min(seconds / 10, last - time.monotonic())
            if wait <= 0 or self._cpu_seconds() - used >= seconds / 2:
                break
        starved = self._cpu_seconds() - used < seconds / 2
        self.kill()
        raise WorkerTimeoutError("deadline passed; the worker was killed", starved=starved)

    def _cpu_seconds(self) -> float:
        """CPU time of the worker so far; infinite if it is gone, which a read will tell better."""
        try:
            # The kernel's clock id of another process's CPU time: CPUCLOCK_SCHED of ~pid.
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return float("inf")

    def _reply(self, deadline: float) -> dict[str, Any]:
        try:
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
        gone = select.poll()
        gone.register(self._pidfd, select.POLLIN)
        gone.poll(500)
        self.kill()
        if self._status is None:
            return WorkerDiedError(f"worker ended ({reason}), and its fork server with it", signal=signal.SIGKILL)
        code = os.waitstatus_to_exitcode(self._status)
        if code >= 0:
            return WorkerDiedError(f"worker ended ({reason}, exit status {code})")
        return WorkerDiedError(f"worker was ended by {signal.Signals(-code).name}", signal=-code)

    def end(self) -> None:
        """End the process while another thread waits for it: that thread finds it dead, and releases the rest."""
        with self._lock:
            if self._pidfd >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def kill(self) -> None:
        """End the process and release everything. May be called twice."""
        self.end()
        with self._lock:
            # A descriptor closed twice could be another thread's by then.
            pidfd, self._pidfd = self._pidfd, -1
        if pidfd < 0:
            return
        os.close(pidfd)
        self._connection.close()
        self._status = self._fork_server.reap(self.pid)


class GraderWorkerPool:
    """The grader workers of a pool, started when first needed. Thread-safe."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._idle: list[GraderWorker] = []
        self._leased: set[GraderWorker] = set()
        self._fork_servers: dict[str, GraderForkServer] = {}
        self._starting = threading.Lock()
        self._closed = False

    def check(self, verifier: RegisteredVerifier, submission: Submission, deadline: float) -> Grade:
        """Grade a submission in a worker.

        A submission whose text crashes two workers is unparseable; one whose workers were killed by somebody else is
        not graded.

        Raises:
            BadReferenceError: the verifier cannot use the reference.
            DeadlineError: `deadline` (a `time.monotonic()` value) passed.
            WorkerStartError, WorkerDiedError, PoolClosedError: no worker could do it.
        """
        request = _encoded(submission)
        for attempt in range(_ATTEMPTS):
            worker = self._lease(verifier)
            left = deadline - time.monotonic()
            if left <= 0:
                self._return(worker)
                raise DeadlineError("the deadline passed before a worker was free")
            try:
                reply = worker.call(request, self._config.grader_seconds, left)
            except WorkerTimeoutError as error:
                self._discard(worker, "deadline")
                if error.starved or left < self._config.grader_seconds:
                    raise DeadlineError("the machine was too busy, or the deadline passed during the check") from None
                return Grade(Status.TIMEOUT, detail=f"no result after {self._config.grader_seconds} s")
            except WorkerDiedError as error:
                self._discard(worker, "died")
                if attempt + 1 < _ATTEMPTS:
                    continue
                if error.signal in _OWN_DEATHS:
                    return Grade(Status.UNPARSEABLE, detail=f"crashes the parser: {error}")
                raise
            self._return(worker)
            return _grade(reply)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End every worker."""
        with self._lock:
            self._closed = True
            leased, idle = list(self._leased), list(self._idle)
            self._leased.update(idle)
            self._idle.clear()
        for worker in leased:
            worker.end()
        for worker in idle:
            self._discard(worker, "recycled")
        with self._starting:
            for fork_server in self._fork_servers.values():
                fork_server.close()

    def _lease(self, verifier: RegisteredVerifier) -> GraderWorker:
        evicted = None
        with self._lock:
            if self._closed:
                raise PoolClosedError("the pool was closed")
            for worker in self._idle:
                if worker.verifier == verifier.name:
                    self._idle.remove(worker)
                    self._leased.add(worker)
                    return worker
            if self._idle and len(self._idle) + len(self._leased) >= self._config.workers:
                evicted = self._idle.pop(0)
                self._leased.add(evicted)
        if evicted is not None:
            self._discard(evicted, "recycled")
        worker = self._forked(verifier)
        metrics.WORKER_STARTS.inc()
        metrics.WORKERS.inc()
        with self._lock:
            self._leased.add(worker)
            closed = self._closed
        if closed:
            self._discard(worker, "recycled")
            raise PoolClosedError("the pool was closed")
        return worker

    def _forked(self, verifier: RegisteredVerifier) -> GraderWorker:
        """A worker from the verifier's fork server, which is started when first needed, and again if it has died."""
        with self._starting:
            if self._closed:
                raise PoolClosedError("the pool was closed")
            fork_server = self._fork_servers.get(verifier.name)
            with contextlib.suppress(WorkerDiedError):
                if fork_server is not None:
                    return GraderWorker(fork_server, verifier.name)
            fork_server = self._fork_servers[verifier.name] = GraderForkServer(self._config, verifier)
            return GraderWorker(fork_server, verifier.name)

    def _return(self, worker: GraderWorker) -> None:
        with self._lock:
            keep = worker.checks < self._config.grader_recycle_checks and not self._closed
            if keep:
                self._leased.discard(worker)
                self._idle.append(worker)
        if not keep:
            self._discard(worker, "recycled")

    def _discard(self, worker: GraderWorker, reason: str) -> None:
        with self._lock:
            counted = worker in self._leased or worker in self._idle
            self._leased.discard(worker)
        worker.kill()
        if counted:
            metrics.WORKERS.dec()
            metrics.KILLS.labels(reason).inc()


def _encoded(submission: Submission) -> bytes:
    try:
        return frames.encode(
            {
                "verifier": submission.verifier,
                "response": submission.response,
                "reference": dict(submission.reference),
                "prompt": submission.prompt,
            }
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise BadReferenceError(f"the reference is not JSON: {error}") from None


def _grade(reply: dict[str, object]) -> Grade:
    """The grade in a worker's reply, of which only types and ranges that can be right are believed."""
    if "failure" in reply:
        raise BadReferenceError(str(reply["failure"]))
    status, accuracy, parts = reply.get("status"), reply.get("accuracy"), reply.get("parts")
    if not isinstance(accuracy, int | float) or not isinstance(parts, dict):
        raise WorkerDiedError("a worker sent a malformed reply")
    grade = Grade.of(accuracy, str(reply.get("detail", ""))[:500])
    return Grade(Status(str(status)), grade.accuracy, grade.detail, {str(k): float(v) for k, v in parts.items()})
