"""A counter of seconds that is right at every moment, also while what it counts is under way."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class SecondsCounter(Collector):
    """Seconds by the value of one label, counted up to the moment of the scrape.

    A counter that only grew when something ended would show a pool with long steps as idle, then as overworked. What
    several threads do at a time under one label counts once.
    """

    def __init__(self, name: str, documentation: str, label: str, registry: CollectorRegistry) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._lock = threading.Lock()
        self._total: dict[str, float] = {}
        self._active: dict[str, tuple[int, float]] = {}
        registry.register(self)

    def begin_at_zero(self, value: str) -> None:
        """Show the series of a label's value from now on."""
        with self._lock:
            self._total.setdefault(value, 0.0)

    @contextmanager
    def counted(self, value: str) -> Iterator[None]:
        """Count the time of the body."""
        self._enter(value)
        try:
            yield
        finally:
            self._leave(value)

    def _enter(self, value: str) -> None:
        with self._lock:
            depth, since = self._active.get(value, (0, time.monotonic()))
            self._active[value] = depth + 1, since

    def _leave(self, value: str) -> None:
        with self._lock:
            depth, since = self._active.pop(value)
            if depth > 1:
                self._active[value] = depth - 1, since
            else:
                self._total[value] = self._total.get(value, 0.0) + time.monotonic() - since

    def seconds(self, value: str) -> float:
        with self._lock:
            running = time.monotonic() - self._active[value][1] if value in self._active else 0.0
            return self._total.get(value, 0.0) + running

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._documentation, labels=[self._label])
        for value in sorted({*self._total, *self._active}):
            family.add_metric([value], self.seconds(value))
        yield family
