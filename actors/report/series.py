"""Series in bounded memory, however long a run is."""

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One or several neighbouring values: their mean and range, at the position of the last of them."""

    step: int
    seconds: float
    value: float
    low: float
    high: float
    count: int

    def join(self, later: "Point") -> "Point":
        """Both as one point; the mean is weighted by count."""
        count = self.count + later.count
        value = (self.value * self.count + later.value * later.count) / count
        return Point(later.step, later.seconds, value, min(self.low, later.low), max(self.high, later.high), count)


class Series:
    """At most `limit` points. When full, neighbours are joined: resolution halves, extremes stay."""

    def __init__(self, limit: int = 512) -> None:
        if limit < 2 or limit % 2:
            raise ValueError(f"the limit of a series must be even and at least 2, not {limit}")
        self._limit = limit
        self._stride = 1
        self._points: list[Point] = []

    def add(self, step: int, seconds: float, value: float) -> None:
        """Append a value; one that is not finite cannot be drawn or averaged and is left out."""
        if not math.isfinite(value):
            return
        point = Point(step, seconds, value, value, value, 1)
        if self._points and self._points[-1].count < self._stride:
            self._points[-1] = self._points[-1].join(point)
            return
        if len(self._points) == self._limit:
            self._points = [a.join(b) for a, b in zip(self._points[::2], self._points[1::2], strict=True)]
            self._stride *= 2
        self._points.append(point)

    def cut(self, step: int) -> None:
        """Forget everything from `step` on."""
        while self._points and self._points[-1].step >= step:
            self._points.pop()

    def last(self, count: int = 1) -> list[float]:
        """The values of the last `count` points, oldest first."""
        return [point.value for point in self._points[-count:]]

    def mean(self) -> float | None:
        """Mean of every value ever added; None if there is none."""
        total = sum(point.count for point in self._points)
        return sum(point.value * point.count for point in self._points) / total if total else None

    def thinned(self, limit: int) -> list[Point]:
        """At most `limit` points that cover the whole series."""
        stride = -(-len(self._points) // limit)
        if stride <= 1:
            return list(self._points)
        joined = []
        for start in range(0, len(self._points), stride):
            first, *rest = self._points[start : start + stride]
            for point in rest:
                first = first.join(point)
            joined.append(first)
        return joined

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)
