"""Series in bounded memory, however long a run is."""

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One or several neighbouring values, at the position of the last of them.

    Attributes:
        step: optimizer step, or policy version.
        seconds: time since the run's start (s).
        value: mean of the values.
        low: the smallest of them.
        high: the largest of them.
        count: how many they are.
    """

    step: int
    seconds: float
    value: float
    low: float
    high: float
    count: int

    def merge(self, later: "Point") -> "Point":
        """This and a later point as one; the mean is weighted by count."""
        count = self.count + later.count
        value = (self.value * self.count + later.value * later.count) / count
        return Point(later.step, later.seconds, value, min(self.low, later.low), max(self.high, later.high), count)


class Series:
    """A series of values in at most `limit` points: when full, neighbours are merged; resolution halves, extremes stay.

    Args:
        limit: points, an even number.

    Raises:
        ValueError: if `limit` is odd or below 2.
    """

    def __init__(self, limit: int = 512) -> None:
        if limit < 2 or limit % 2:
            raise ValueError(f"the limit of a series must be even and at least 2, not {limit}")
        self._limit = limit
        self._stride = 1
        self._points: list[Point] = []

    def add(self, step: int, seconds: float, value: float) -> None:
        """Append a value; one that is not finite can be neither plotted nor averaged and is skipped.

        Args:
            step: optimizer step, or policy version; never below the one before.
            seconds: time since the run's start (s).
            value: the value.
        """
        if not math.isfinite(value):
            return
        point = Point(step, seconds, value, value, value, 1)
        if self._points and self._points[-1].count < self._stride:
            self._points[-1] = self._points[-1].merge(point)
            return
        if len(self._points) == self._limit:
            self._points = [a.merge(b) for a, b in zip(self._points[::2], self._points[1::2], strict=True)]
            self._stride *= 2
        self._points.append(point)

    def cut(self, step: int) -> None:
        """Forget everything from `step` on."""
        while self._points and self._points[-1].step >= step:
            self._points.pop()

    def last(self, count: int = 1) -> list[float]:
        """The values of the last `count` points, oldest first."""
        return [point.value for point in self._points[-count:]]

    def thinned(self, limit: int) -> list[Point]:
        """At most `limit` points that cover the whole series."""
        stride = -(-len(self._points) // limit)
        if stride <= 1:
            return list(self._points)
        merged = []
        for start in range(0, len(self._points), stride):
            first, *rest = self._points[start : start + stride]
            for point in rest:
                first = first.merge(point)
            merged.append(first)
        return merged

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)
