"""The verifier pool: scores submissions in parallel, each under a deadline, and never waits for anything for ever.

Inline verifiers run in the calling thread. Isolated ones run in persistent grader workers, programs in locked-down
children of fork servers; both start when first needed and block in a read when idle. What exceeds its deadline is
killed; a process that dies is replaced and its check tried again, so that one lost to something outside never costs a
verdict. Identical checks, in one call and across calls, are done once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from types import TracebackType

import sandbox.verifiers  # noqa: F401 - registers the built-in verifiers
from sandbox import language, metrics, registry
from sandbox.config import RewardConfig, SandboxConfig
from sandbox.errors import InputError, PoolClosedError, SandboxError
from sandbox.grading.workers import GraderWorkerPool
from sandbox.programs.fork_server_pool import ForkServerPool
from sandbox.programs.runner import NO_SCRATCH, ProgramRunner
from sandbox.registry import Kind, RegisteredVerifier
from sandbox.rewards import parts_of, weighted
from sandbox.verdict import Grade, Status, Submission, Verdict, as_grade

_log = logging.getLogger("sandbox")
# Leaves a killed process time to be reaped before `score` gives up on its thread.
_GRACE_SECONDS = 1.0
# A repeated check may end differently in these cases, so they are not remembered.
_NOT_REMEMBERED = (Status.TIMEOUT, Status.MEMORY, Status.INFRA_ERROR)


@dataclass(frozen=True, slots=True)
class _Check:
    """A finished check: its grade, or what kept it from one."""

    grade: Grade | None
    seconds: float
    failure: str = ""
    retryable: bool = False


class Pool:
    """Scores submissions. Thread-safe; owns its processes; use it as a context manager.

    Example:
        >>> with Pool(SandboxConfig(), RewardConfig()) as pool:
        ...     [verdict] = pool.score([Submission("exact", "<answer>4</answer>", {"answer": "4"})], deadline_seconds=5)
        >>> verdict.status, verdict.reward
        (<Status.OK: 'ok'>, 1.0)
    """

    def __init__(self, config: SandboxConfig, rewards: RewardConfig) -> None:
        """Nothing is started yet, unless programs are to have a directory: then a warning says where they cannot.

        Raises:
            UnknownLanguageError: the language of the rewards is unknown.
            IsolationError, WorkerStartError: with `scratch_bytes`, where programs cannot be run at all.
        """
        if rewards.language is not None:
            language.require(rewards.language)
        self._config = config
        self._rewards = rewards
        self._weights: dict[str, float] = rewards.weights.model_dump()
        self._threads = ThreadPoolExecutor(config.workers, thread_name_prefix="sandbox")
        self._graders = GraderWorkerPool(config)
        self._fork_servers = ForkServerPool(config)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Future[_Check]] = OrderedDict()
        self._closed = False
        metrics.seed(registry.verifier_names())
        if config.scratch_bytes > 0:
            self._require_scratch()

    def score(self, submissions: Sequence[Submission], deadline_seconds: float) -> list[Verdict]:
        """Verdicts in the order of `submissions`; what is not done after `deadline_seconds` is an infra_error.

        A bad submission (unknown verifier, unusable reference) gets an infra_error with the reason; it raises nothing.
        So does every program where nothing isolates it.

        Raises:
            PoolClosedError: the pool is closed.
        """
        if self._closed:
            raise PoolClosedError("this pool is closed; make a new one")
        deadline = time.monotonic() + deadline_seconds
        begun = [self._begin(submission, deadline) for submission in submissions]
        return [
            self._verdict(submission, _await(check, deadline))
            for submission, check in zip(submissions, begun, strict=True)
        ]

    @property
    def config(self) -> SandboxConfig:
        """What the pool was made with."""
        return self._config

    def runner(self, deadline_seconds: float) -> ProgramRunner:
        """A runner of programs outside any verifier, for servers and tools; close the pool when done."""
        return ProgramRunner(self._fork_servers, self._config, time.monotonic() + deadline_seconds)

    def _require_scratch(self) -> None:
        try:
            if not self.runner(2 * self._config.start_seconds).can_write():
                _log.warning("scratch_bytes has no effect: %s", NO_SCRATCH)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every process and thread; scores in progress end as infra_error. May be called twice."""
        with self._lock:
            self._closed = True
            self._known.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._graders.close()
        self._fork_servers.close()
        self._threads.shutdown(wait=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, submission: Submission, deadline: float) -> _Check | Future[_Check]:
        """The check where no process is needed, otherwise its future."""
        started = time.perf_counter()
        try:
            verifier = registry.lookup(submission.verifier)
            if verifier.kind is Kind.INLINE:
                return _Check(as_grade(verifier.function(submission)), time.perf_counter() - started)
            grade = None if verifier.fast_path is None else verifier.fast_path(submission)
            if grade is not None:
                return _Check(grade, time.perf_counter() - started)
            key = _key(verifier, submission) if self._config.cache_entries else None
        except Exception as error:  # noqa: BLE001 - one bad submission or verifier must not cost the others theirs
            return _failed(error, time.perf_counter() - started)
        return self._remembered(key) or self._submit(key, verifier, submission, deadline)

    def _remembered(self, key: str | None) -> Future[_Check] | None:
        """The future of an identical check that is running or has succeeded."""
        if key is None:
            return None
        with self._lock:
            known = self._known.get(key)
            if known is None:
                return None
            if known.cancelled() or (known.done() and not _lasting(known)):
                del self._known[key]
                return None
            self._known.move_to_end(key)
        metrics.CACHE_HITS.inc()
        return known

    def _submit(
        self, key: str | None, verifier: RegisteredVerifier, submission: Submission, deadline: float
    ) -> Future[_Check]:
        try:
            future = self._threads.submit(self._check, verifier, submission, deadline, time.monotonic())
        except RuntimeError:
            raise PoolClosedError("this pool is closed; make a new one") from None
        metrics.QUEUED.inc()
        future.add_done_callback(lambda _: metrics.QUEUED.dec())
        if key is not None:
            with self._lock:
                self._known[key] = future
                while len(self._known) > self._config.cache_entries:
                    self._known.popitem(last=False)
        return future

    def _check(self, verifier: RegisteredVerifier, submission: Submission, deadline: float, queued: float) -> _Check:
        metrics.QUEUE_SECONDS.observe(time.monotonic() - queued)
        started = time.perf_counter()
        try:
            if time.monotonic() > deadline:
                return _Check(None, 0.0, "the deadline passed before a worker was free", retryable=True)
            if verifier.kind is Kind.ISOLATED:
                grade = self._graders.check(verifier, submission, deadline)
            else:
                grade = as_grade(
                    verifier.function(submission, ProgramRunner(self._fork_servers, self._config, deadline))
                )
            return _Check(grade, time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong on our side is an infra_error, never a reward
            return _failed(error, time.perf_counter() - started)

    def _verdict(self, submission: Submission, check: _Check) -> Verdict:
        unsafe = self._config.unsafe
        if check.grade is None:
            detail = f"{submission.verifier}: {check.failure}"
            verdict = Verdict(Status.INFRA_ERROR, None, {}, check.seconds, detail, unsafe, check.retryable)
        else:
            grade = check.grade
            accuracy = None if grade.status is Status.UNVERIFIED else grade.accuracy
            parts = {**grade.parts, **parts_of(submission, accuracy, self._rewards)}
            reward = weighted(parts, self._weights)
            verdict = Verdict(grade.status, reward, parts, check.seconds, grade.detail, unsafe)
        known = submission.verifier if submission.verifier in registry.verifier_names() else "unknown"
        metrics.VERDICTS.labels(known, verdict.status.value).inc()
        metrics.CHECK_SECONDS.labels(known).observe(verdict.seconds)
        return verdict


def _failed(error: Exception, seconds: float) -> _Check:
    retryable = isinstance(error, SandboxError) and not isinstance(error, InputError)
    # Ours say what is wrong; of others, a verifier's KeyError say, the message alone often says nothing.
    reason = str(error) if isinstance(error, SandboxError) else f"{type(error).__name__}: {error}"
    return _Check(None, seconds, reason, retryable)


def _await(check: _Check | Future[_Check], deadline: float) -> _Check:
    if isinstance(check, _Check):
        return check
    try:
        return check.result(max(0.0, deadline - time.monotonic()) + _GRACE_SECONDS)
    except (FutureTimeoutError, CancelledError):
        return _Check(None, 0.0, "not done within the deadline, or the pool was closed", retryable=True)


def _lasting(future: Future[_Check]) -> bool:
    grade = future.result().grade
    return grade is not None and grade.status not in _NOT_REMEMBERED


def _key(verifier: RegisteredVerifier, submission: Submission) -> str | None:
    """What two checks have in common that must end alike; None if nothing is known to decide it."""
    if verifier.cache_key is None:
        return None
    try:
        what = [verifier.name, verifier.cache_key(submission), submission.prompt, submission.reference]
        text = json.dumps(what, sort_keys=True, default=dict)
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
