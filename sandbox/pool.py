"""The verifier pool: scores submissions in parallel, each under a deadline, and never waits for anything for ever.

Inline verifiers run in the calling thread. Isolated ones run in persistent worker processes that start when first
needed and block in a read when idle. A worker that exceeds its deadline is killed; one that dies is replaced and its
check is tried once more, so that a worker lost to something outside never costs a verdict.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType

from sandbox import frames, metrics, registry
from sandbox.config import RewardConfig, SandboxConfig
from sandbox.errors import PoolClosedError, SandboxError, WorkerDiedError, WorkerStartError, WorkerTimeoutError
from sandbox.processes import AnswerWorker
from sandbox.registry import Kind, Verifier
from sandbox.rewards import parts_of, weighted
from sandbox.verdict import Grade, Status, Submission, Verdict
from sandbox.worker import as_grade

# Signals by which a process ends itself; any other death of a worker came from outside.
_OWN_DEATHS = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
_ATTEMPTS = 2
# Leaves a killed worker time to be reaped before `score` gives up on its thread.
_GRACE_SECONDS = 1.0


class Pool:
    """Scores submissions. Thread-safe; owns its worker processes; use it as a context manager.

    Example:
        >>> with Pool(SandboxConfig(), RewardConfig()) as pool:
        ...     [verdict] = pool.score([Submission("exact", "<answer>4</answer>", {"answer": "4"})], deadline_seconds=5)
        >>> verdict.status, verdict.reward
        (<Status.OK: 'ok'>, 1.0)
    """

    def __init__(self, config: SandboxConfig, rewards: RewardConfig) -> None:
        self._config = config
        self._rewards = rewards
        self._weights: dict[str, float] = rewards.weights.model_dump()
        self._threads = ThreadPoolExecutor(config.workers, thread_name_prefix="sandbox")
        self._lock = threading.Lock()
        self._idle: list[AnswerWorker] = []
        self._leased: set[AnswerWorker] = set()
        self._closed = False
        metrics.seed(registry.names())

    def score(self, submissions: Sequence[Submission], deadline_seconds: float) -> list[Verdict]:
        """Verdicts in the order of `submissions`; what is not done after `deadline_seconds` is an infra_error.

        A bad submission (unknown verifier, unusable reference) gets an infra_error that says so; it raises nothing.

        Raises:
            PoolClosedError: the pool is closed.
        """
        if self._closed:
            raise PoolClosedError("this pool is closed; make a new one")
        deadline = time.monotonic() + deadline_seconds
        pending = [self._begin(submission, deadline) for submission in submissions]
        return [
            self._finish(submission, started, deadline)
            for submission, started in zip(submissions, pending, strict=True)
        ]

    def close(self) -> None:
        """End every worker process and thread; scores in progress end as infra_error. May be called twice."""
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._leased]
            self._idle.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            self._discard(worker, "recycled")
        self._threads.shutdown(wait=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, submission: Submission, deadline: float) -> Verdict | Future[Verdict]:
        """The verdict where no process is needed, otherwise its future."""
        started = time.perf_counter()
        try:
            verifier = registry.lookup(submission.verifier)
            if verifier.kind is Kind.INLINE:
                return self._verdict(submission, as_grade(verifier.function(submission)), started)
            grade = None if verifier.quick is None else verifier.quick(submission)
            if grade is not None:
                return self._verdict(submission, grade, started)
            if verifier.kind is Kind.PROGRAM:
                return self._verdict(submission, as_grade(verifier.function(submission)), started)
            request = frames.encode(_request(submission, self._config.answer_seconds))
        except Exception as error:  # noqa: BLE001 - one bad submission or verifier must not cost the others theirs
            return self._failure(submission, f"{type(error).__name__}: {error}", started)
        try:
            future = self._threads.submit(self._isolated, verifier, submission, request, deadline, time.monotonic())
        except RuntimeError:
            raise PoolClosedError("this pool is closed; make a new one") from None
        metrics.QUEUED.inc()
        future.add_done_callback(lambda _: metrics.QUEUED.dec())
        return future

    def _finish(self, submission: Submission, started: Verdict | Future[Verdict], deadline: float) -> Verdict:
        if isinstance(started, Verdict):
            verdict = started
        else:
            try:
                verdict = started.result(max(0.0, deadline - time.monotonic()) + _GRACE_SECONDS)
            except (FutureTimeoutError, SandboxError) as error:
                started.cancel()
                verdict = self._failure(submission, f"not done within the deadline: {error}")
            except BaseException:
                started.cancel()
                raise
        metrics.VERDICTS.labels(submission.verifier, verdict.status.value).inc()
        metrics.CHECK_SECONDS.labels(submission.verifier).observe(verdict.seconds)
        return verdict

    def _isolated(
        self, verifier: Verifier, submission: Submission, request: bytes, deadline: float, queued: float
    ) -> Verdict:
        metrics.QUEUE_SECONDS.observe(time.monotonic() - queued)
        died: WorkerDiedError | None = None
        started = time.perf_counter()
        for _ in range(_ATTEMPTS):
            try:
                worker = self._lease(verifier)
            except (WorkerStartError, PoolClosedError) as error:
                return self._failure(submission, str(error), started)
            started = time.perf_counter()
            left = deadline - time.monotonic()
            if left <= 0:
                self._return(worker)
                return self._failure(submission, "the deadline passed before a worker was free", started)
            try:
                reply = worker.call(request, min(left, self._config.answer_seconds))
            except WorkerTimeoutError:
                self._discard(worker, "deadline")
                if left < self._config.answer_seconds:
                    return self._failure(submission, "the deadline passed during the check", started)
                grade = Grade(Status.TIMEOUT, detail=f"no result after {self._config.answer_seconds} s")
                return self._verdict(submission, grade, started)
            except WorkerDiedError as error:
                self._discard(worker, "died")
                died = error
                continue
            self._return(worker)
            if "failure" in reply:
                return self._failure(submission, str(reply["failure"]), started)
            return self._verdict(submission, _grade(reply), started)
        assert died is not None
        if died.signal in _OWN_DEATHS:
            return self._verdict(submission, Grade(Status.UNPARSEABLE, detail=f"crashes the parser: {died}"), started)
        return self._failure(submission, str(died), started)

    def _lease(self, verifier: Verifier) -> AnswerWorker:
        with self._lock:
            if self._closed:
                raise PoolClosedError("the pool was closed")
            worker = self._idle.pop() if self._idle else None
            if worker is not None:
                self._leased.add(worker)
        if worker is None:
            worker = AnswerWorker(self._config)
            metrics.WORKER_STARTS.inc()
            metrics.WORKERS.inc()
            with self._lock:
                self._leased.add(worker)
                closed = self._closed
            if closed:
                self._discard(worker, "recycled")
                raise PoolClosedError("the pool was closed")
        try:
            worker.prepare((*verifier.warm_up, verifier.function.__module__))
        except WorkerStartError:
            self._discard(worker, "died")
            raise
        return worker

    def _return(self, worker: AnswerWorker) -> None:
        with self._lock:
            keep = worker.checks < self._config.answer_recycle_checks and not self._closed
            if keep:
                self._leased.discard(worker)
                self._idle.append(worker)
        if not keep:
            self._discard(worker, "recycled")

    def _discard(self, worker: AnswerWorker, reason: str) -> None:
        with self._lock:
            known = worker in self._leased or reason == "recycled"
            self._leased.discard(worker)
        worker.kill()
        if known:
            metrics.WORKERS.dec()
            metrics.KILLS.labels(reason).inc()

    def _verdict(self, submission: Submission, grade: Grade, started: float) -> Verdict:
        seconds = time.perf_counter() - started
        parts = {**grade.parts, **parts_of(submission, grade.accuracy, self._rewards)}
        return Verdict(grade.status, weighted(parts, self._weights), parts, seconds, grade.detail)

    def _failure(self, submission: Submission, detail: str, started: float | None = None) -> Verdict:
        seconds = 0.0 if started is None else time.perf_counter() - started
        return Verdict(Status.INFRA_ERROR, None, {}, seconds, f"{submission.verifier}: {detail}")


def _request(submission: Submission, seconds: float) -> dict[str, object]:
    return {
        "verifier": submission.verifier,
        "response": submission.response,
        "reference": dict(submission.reference),
        "prompt": submission.prompt,
        "seconds": seconds,
    }


def _grade(reply: dict[str, object]) -> Grade:
    """The grade in a worker's reply, of which only types and ranges that can be right are believed."""
    status, accuracy, parts = reply.get("status"), reply.get("accuracy"), reply.get("parts")
    if not isinstance(accuracy, int | float) or not isinstance(parts, dict):
        raise WorkerDiedError("a worker sent a malformed reply")
    grade = Grade.of(accuracy, str(reply.get("detail", ""))[:500])
    return Grade(Status(str(status)), grade.accuracy, grade.detail, {str(k): float(v) for k, v in parts.items()})
