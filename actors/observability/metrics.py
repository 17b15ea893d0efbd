"""Every metric of Leeway, defined once. Each process serves its own on /metrics.

Names have the prefix `leeway_` and base units. Series that a panel shows are there from the start, at zero.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from actors.membership import Report
from actors.observability.waits import long_waits

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
VERSIONS = tuple(range(17))
LENGTHS = (16, 64, 256, 1024, 4096, 16384, 65536)
#: Rewards may be negative, and then a histogram has no sum (OpenMetrics): the mean a source is a step's statistic.
REWARDS = (-1, -0.5, 0, 0.25, 0.5, 0.75, 1, 1.5, 2)

GROUPS = Gauge("leeway_groups", "Groups in the replay, by state", ["state"])
ISSUED = Counter("leeway_groups_issued", "Groups issued to generators")
DROPPED = Counter("leeway_groups_dropped", "Groups dropped, by reason", ["reason"])
COMMITTED = Counter("leeway_groups_committed", "Groups covered by a durable checkpoint")
PENDING = Gauge("leeway_tasks_pending", "Tasks that wait to be issued again")
CONSERVED = Gauge("leeway_ledger_conserved", "1 while every issued group is accounted for")
STALENESS = Histogram(
    "leeway_staleness_versions",
    "Staleness of delivered groups, by their longest completion (versions)",
    ["length"],
    buckets=VERSIONS,
)
QUEUE_AGE = Histogram("leeway_queue_age_seconds", "From verdict to delivery", buckets=FAST)
MESSAGES = Counter("leeway_messages", "Requests answered by the replay", ["kind"])
MALFORMED = Counter("leeway_messages_malformed", "Messages rejected by the replay")
MALFORMED_EVENTS = Counter("leeway_events_malformed", "Malformed events that the controller dropped")
WORKERS = Gauge("leeway_workers", "Processes on the membership list, by role", ["role"])
REWARD = Histogram("leeway_reward", "Rewards of verified completions, by task source", ["source"], buckets=REWARDS)

GENERATED_TOKENS = Counter("leeway_generated_tokens", "Sampled tokens of finished completions")
COMPLETIONS = Counter("leeway_completions", "Finished completions")
GROUPS_IN_FLIGHT = Gauge("leeway_generator_groups_in_flight", "Groups that the engine works on")
GENERATOR_VERSION = Gauge("leeway_generator_version", "Policy version that the engine holds")
SYNC_PAUSE = Histogram("leeway_weight_sync_pause_seconds", "Generation paused for an update", buckets=FAST)
SYNC_TRANSFER = Histogram("leeway_weight_sync_transfer_seconds", "Broadcast of an update's bytes", buckets=FAST)
SYNC_TOTAL = Histogram("leeway_weight_sync_seconds", "From the offer of an update to its commit", buckets=FAST)
SYNC_BYTES = Counter("leeway_weight_sync_bytes", "Bytes of weights broadcast, counted once for all receivers")
SYNC_FAILURES = Counter("leeway_weight_sync_failures", "Generators evicted from an update")
WEIGHT_MALFORMED = Counter("leeway_weight_messages_malformed", "Messages about weights refused by either end")
WEIGHT_EPOCH = Gauge("leeway_weight_epoch", "Membership epoch of the broadcast group")

VERIFICATION = Histogram("leeway_verification_seconds", "Scoring of one group", buckets=FAST)
VERDICTS = Counter("leeway_verdicts", "Verdicts on completions, by status", ["status"])

CHECKPOINT_FAILURES = Counter("leeway_checkpoint_failures", "Checkpoints that could not be written")
LEARNER_VERSION = Gauge("leeway_learner_version", "Policy version of the learner")
TRAINED_TOKENS = Counter("leeway_trained_tokens", "Completion tokens that went into an optimizer step")
STEP = Histogram("leeway_step_seconds", "One optimizer step", buckets=FAST)
BATCH_WAIT = Counter("leeway_learner_wait_seconds", "Time in which the learner waited for a batch")
STATISTIC = Gauge("leeway_step_statistic", "Statistics of the latest optimizer step", ["name"])
HELD_OUT = Gauge("leeway_held_out_accuracy", "pass@1 on the held-out tasks, latest evaluation")
RESTARTS = Counter("leeway_restarts", "Processes replaced", ["role"])
UNRESPONSIVE = Gauge("leeway_unresponsive", "Processes that are silent, stuck or lost, by role", ["role"])
WARNING = Gauge("leeway_warning", "1 while a health warning of the run holds, by its symptom", ["symptom"])
SUBMITTED_LENGTH = Histogram(
    "leeway_submitted_length_tokens", "Longest completion of groups that generators submitted", buckets=LENGTHS
)
DELIVERED_LENGTH = Histogram(
    "leeway_delivered_length_tokens", "Longest completion of groups that the learner got", buckets=LENGTHS
)
DROPPED_LENGTH = Histogram(
    "leeway_dropped_length_tokens",
    "Longest completion of groups that were dropped after they were submitted, by reason",
    ["reason"],
    buckets=LENGTHS,
)
STRAGGLER_WAIT = Counter(
    "leeway_straggler_wait_seconds",
    "Time in which the learner waited rather than outrun groups, by the longest completion of the last that came",
    ["length"],
)
MASKED_TOKENS = Counter(
    "leeway_masked_tokens", "Delivered tokens that get no weight for their age, by the longest completion", ["length"]
)


def length_label(tokens: int) -> str:
    """The label of a length: the first of `LENGTHS` that is no less, as in a histogram's buckets."""
    return next((str(bound) for bound in LENGTHS if tokens <= bound), "+Inf")


#: All labels of a length.
LENGTH_LABELS = (*map(str, LENGTHS), "+Inf")
RECOVERY = Histogram(
    "leeway_recovery_seconds", "From a fault until work flowed again, by its kind", ["role", "fault"], buckets=FAST
)

JOURNAL_WRITE = Histogram("leeway_journal_write_seconds", "One transaction of the replay's journal", buckets=FAST)
JOURNAL_BYTES = Counter("leeway_journal_written_bytes", "Bytes of groups, calls and events written to the journal")
JOURNAL_SIZE = Gauge("leeway_journal_size_bytes", "Size of the journal on its disk")
JOURNAL_LAG = Gauge("leeway_journal_lag_seconds", "Age of the oldest change that is not in the journal")
JOURNAL_BLOCKED = Gauge("leeway_journal_blocked", "1 while the journal cannot be written, and the run stands still")

CONNECTIONS_REFUSED = Counter(
    "leeway_connections_refused", "Connections to this process's services that were cut, by reason", ["reason"]
)

POOL_WANTED = Gauge("leeway_pool_size_wanted", "Processes that a pool is to have", ["role"])


def serve(bind: str, port: int, admits: Callable[[bytes], bool] = lambda _: True) -> WSGIServer:
    """Serve this process's metrics on a port of `bind`; returns the server, for its port and its `shutdown`.

    Args:
        bind: address to listen on.
        port: to listen on; 0 for a free one.
        admits: whether a request may pass, by its Authorization header.

    Raises:
        OSError: where the port is taken.
    """
    server, _ = start_http_server(port, addr=bind)
    served: Any = server.get_app()

    def gated(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if admits(environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")):
            return cast("Iterable[bytes]", served(environ, start_response))
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        return [b"a bearer token is needed"]

    server.set_app(gated)
    return server


class BusyClock(Collector):
    """Seconds in which each role of this process had work, counted up to the moment of the scrape.

    A counter that only grew when work ended would show a pool with long steps as idle, then as overworked.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total: dict[str, float] = {}
        self._active: dict[str, tuple[int, float]] = {}

    def enter(self, role: str) -> None:
        with self._lock:
            depth, since = self._active.get(role, (0, time.monotonic()))
            self._active[role] = depth + 1, since

    def leave(self, role: str) -> None:
        with self._lock:
            depth, since = self._active.pop(role)
            if depth > 1:
                self._active[role] = depth - 1, since
            else:
                self._total[role] = self._total.get(role, 0.0) + time.monotonic() - since

    def seconds(self, role: str) -> float:
        with self._lock:
            running = time.monotonic() - self._active[role][1] if role in self._active else 0.0
            return self._total.get(role, 0.0) + running

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily("leeway_busy_seconds", "Time in which the process had work", labels=["role"])
        for role in sorted({*self._total, *self._active}):
            family.add_metric([role], self.seconds(role))
        yield family


BUSY = BusyClock()
REGISTRY.register(BUSY)


@contextmanager
def busy(role: str) -> Iterator[None]:
    """Count the time of the body as work of `role`; bodies of several threads that overlap count once."""
    BUSY.enter(role)
    try:
        yield
    finally:
        BUSY.leave(role)


_STARTED, _PROCESS = time.monotonic(), secrets.token_hex(8)


def _begin() -> None:
    """What tells this process from others; a fork is another one."""
    global _STARTED, _PROCESS
    _STARTED, _PROCESS = time.monotonic(), secrets.token_hex(8)


os.register_at_fork(after_in_child=_begin)
#: What counts as progress of a role: completions generated, groups scored, optimizer steps taken.
_PROGRESS = {"generator": COMPLETIONS, "verifier": VERIFICATION, "learner": STEP}


def report(
    role: str, address: str, version: int | None = None, *, ready: bool, unanswered_seconds: float = 0.0
) -> Report:
    """What the metrics of this process, which serves them at `address`, say of it: the content of its heartbeat."""
    return Report(
        ready=ready,
        version=version,
        process=_PROCESS,
        uptime_seconds=time.monotonic() - _STARTED,
        progress=int(_total(_PROGRESS[role])) if role in _PROGRESS else 0,
        busy_seconds=BUSY.seconds(role),
        unanswered_seconds=unanswered_seconds,
        generated_tokens=int(_total(GENERATED_TOKENS)),
        trained_tokens=int(_total(TRAINED_TOKENS)),
        groups_in_flight=int(_total(GROUPS_IN_FLIGHT)),
        metrics=address,
        waits=long_waits(),
    )


def _total(metric: Collector) -> float:
    """The value of a counter or gauge, or the number of a histogram's observations."""
    samples = [s for family in metric.collect() for s in family.samples]
    return next(s.value for s in samples if not s.name.endswith(("_bucket", "_created", "_sum")))
