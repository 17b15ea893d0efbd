"""Prometheus metrics of the verifier pool, in base units and process-wide.

They have a registry of their own: a process that only imports this package has no pool, and nothing to show of one.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sandbox.verdict import Status

_SECONDS = (0.00001, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

REGISTRY = CollectorRegistry(auto_describe=True)

VERDICTS = Counter(
    "leeway_sandbox_verdicts", "Verdicts by verifier and status", ["verifier", "status"], registry=REGISTRY
)
CHECK_SECONDS = Histogram(
    "leeway_sandbox_check_seconds",
    "Wall time of one check without queueing",
    ["verifier"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
QUEUE_SECONDS = Histogram(
    "leeway_sandbox_queue_seconds", "Wait of a check for a free worker", buckets=_SECONDS, registry=REGISTRY
)
QUEUED = Gauge("leeway_sandbox_queued_checks", "Checks that wait for a worker or run in one", registry=REGISTRY)
WORKERS = Gauge("leeway_sandbox_worker_processes", "Grader worker processes alive", registry=REGISTRY)
WORKER_STARTS = Counter("leeway_sandbox_worker_starts", "Grader worker processes started", registry=REGISTRY)
KILLS = Counter("leeway_sandbox_kills", "Processes killed by the pool", ["reason"], registry=REGISTRY)
FORK_SERVER_STARTS = Counter(
    "leeway_sandbox_fork_server_starts", "Fork servers of model-written programs started", registry=REGISTRY
)
SELF_TEST_LEAKS = Counter("leeway_sandbox_self_test_leaks", "Isolation self-tests that found a leak", registry=REGISTRY)
CACHE_HITS = Counter(
    "leeway_sandbox_cache_hits", "Checks answered by the result of an identical one", registry=REGISTRY
)


def seed(verifiers: list[str]) -> None:
    """Create every labelled series at zero, so that rates and panels start at the first scrape."""
    for name in verifiers:
        CHECK_SECONDS.labels(name)
        for status in Status:
            VERDICTS.labels(name, status.value)
    for reason in ("deadline", "limit", "recycled", "died"):
        KILLS.labels(reason)
