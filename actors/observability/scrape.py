"""Reads the metrics of the run's processes, as Prometheus would."""

import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

#: A process that takes longer has something better to do; the next round asks again (s).
DEADLINE_SECONDS = 1.0
#: Parsing everything, many times a run, would cost more than some of the pools.
WANTED = ("leeway_busy_", "leeway_generated_tokens_", "leeway_trained_tokens_", "leeway_generator_groups_in_flight")


@dataclass(slots=True)
class Reading:
    """Counters of one process at one moment."""

    busy: dict[str, float] = field(default_factory=dict)
    generated_tokens: float = 0.0
    trained_tokens: float = 0.0
    groups_in_flight: float = 0.0


def read(address: str) -> Reading | None:
    """What the process at `address` (host:port) serves; None where it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=DEADLINE_SECONDS) as response:
            text = response.read().decode()
    except (OSError, urllib.error.URLError):
        return None
    reading = Reading()
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(WANTED))
    for family in text_string_to_metric_families(wanted + "\n"):
        for sample in family.samples:
            match sample.name:
                case "leeway_busy_seconds_total":
                    reading.busy[sample.labels["role"]] = sample.value
                case "leeway_generated_tokens_total":
                    reading.generated_tokens = sample.value
                case "leeway_trained_tokens_total":
                    reading.trained_tokens = sample.value
                case "leeway_generator_groups_in_flight":
                    reading.groups_in_flight = sample.value
    return reading


def busy_shares(
    before: Mapping[str, Reading], now: Mapping[str, Reading], seconds: float, roles: Iterable[str]
) -> dict[str, float]:
    """Share of the interval in which each role worked, averaged over its processes that answered both times."""
    shares = {}
    for role in roles:
        worked = [
            now[name].busy.get(role, 0.0) - before[name].busy.get(role, 0.0)
            for name in now
            if name in before and role in now[name].busy
        ]
        shares[role] = min(1.0, max(0.0, sum(worked) / len(worked) / seconds)) if worked else 0.0
    return shares


def rate(before: Mapping[str, Reading], now: Mapping[str, Reading], seconds: float, counter: str) -> float:
    """Growth of a counter over all processes that answered both times (1/s)."""
    grown = sum(float(getattr(now[name], counter) - getattr(before[name], counter)) for name in now if name in before)
    return max(0.0, grown / seconds)
