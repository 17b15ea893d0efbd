"""What a process says of itself with every heartbeat, from its metrics."""

import os
import secrets
import time

from prometheus_client.registry import Collector

from actors.membership import Report
from actors.observability.metrics import (
    BUSY,
    COMPLETIONS,
    GENERATED_TOKENS,
    GROUPS_IN_FLIGHT,
    SCORING,
    STEP,
    TRAINED_TOKENS,
    VERIFICATION,
)
from actors.observability.waits import long_waits

_STARTED, _PROCESS = time.monotonic(), secrets.token_hex(8)


def _begin() -> None:
    """What tells this process from others; a fork is another one."""
    global _STARTED, _PROCESS
    _STARTED, _PROCESS = time.monotonic(), secrets.token_hex(8)


os.register_at_fork(after_in_child=_begin)
#: What counts as progress of a role: completions generated, groups verified, batches of groups scored, optimizer steps.
_PROGRESS = {
    "generator": COMPLETIONS,
    "verifier": VERIFICATION,
    "scorer": SCORING,
    "learner": STEP,
}


def report(
    role: str,
    address: str,
    version: int | None = None,
    *,
    ready: bool,
    unanswered_seconds: float = 0.0,
    service: str = "",
) -> Report:
    """The content of this process's next heartbeat.

    Args:
        role: whose metrics are looked at.
        address: host:port of this process's /metrics.
        version: policy version that it holds.
        ready: whether it has come up.
        unanswered_seconds: since what does its work last answered (s).
        service: where others ask it, of a scorer that takes requests.
    """
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
        service=service,
        waits=long_waits(),
    )


def _total(metric: Collector) -> float:
    """The value of a counter or gauge, or the number of a histogram's observations."""
    samples = [s for family in metric.collect() for s in family.samples]
    return next(s.value for s in samples if not s.name.endswith(("_bucket", "_created", "_sum")))
