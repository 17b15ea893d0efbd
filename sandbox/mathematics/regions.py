"""Sets of real numbers: unions of intervals in one normal form, and what `and`, `or` and `without` make of them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

from sandbox.mathematics.exact import approximation
from sandbox.mathematics.grammar import read
from sandbox.mathematics.scanner import UnreadableError

INFINITY = "\\infty"
# Floats only put ends in order here; ends that are this near are the same end.
_SAME = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """What lies between two ends; a point has two closed ends that are the same."""

    low: str
    low_closed: bool
    high: str
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A union of intervals, and the variable that was said to lie in it, if one was."""

    intervals: tuple[Interval, ...]
    variable: str = field(default="", compare=False)


REALS = Region((Interval("-" + INFINITY, False, INFINITY, False),))
POSITIVE = Region((Interval("0", False, INFINITY, False),))
NOWHERE = Region(())


class UnorderedError(ValueError):
    """The ends are not numbers, so nobody knows which is larger."""


def point(at: str) -> Interval:
    """One number as an interval."""
    return Interval(at, True, at, True)


def union(*regions: Region) -> Region:
    """What lies in any of them, in normal form: in order, and without intervals that touch or overlap."""
    intervals = [interval for region in regions for interval in region.intervals]
    variable = _common_variable(*regions)
    try:
        intervals.sort(key=lambda interval: (_at(interval.low), not interval.low_closed))
        joined: list[Interval] = []
        for interval in intervals:
            if joined and _touch(joined[-1], interval):
                joined[-1] = _longer(joined[-1], interval)
            else:
                joined.append(interval)
    except UnorderedError:
        return Region(tuple(intervals), variable)
    return Region(tuple(joined), variable)


def intersection(first: Region, second: Region) -> Region:
    """What lies in both.

    Raises:
        UnorderedError: the ends are not numbers.
    """
    found = [_both(one, other) for one in first.intervals for other in second.intervals]
    kept = tuple(interval for interval in found if interval is not None)
    return union(Region(kept, _common_variable(first, second)))


def _common_variable(*regions: Region) -> str:
    variables = {region.variable for region in regions if region.variable}
    return variables.pop() if len(variables) == 1 else ""


def without(region: Region, removed: Region) -> Region:
    """What lies in the first and not in the second.

    Raises:
        UnorderedError: the ends are not numbers.
    """
    for interval in removed.intervals:
        below = Interval("-" + INFINITY, False, interval.low, not interval.low_closed)
        above = Interval(interval.high, not interval.high_closed, INFINITY, False)
        rest = [part for part in (below, above) if part.low != part.high]
        region = intersection(region, Region(tuple(rest)))
    return region


def _both(first: Interval, second: Interval) -> Interval | None:
    order = _order(first.low, second.low)
    low = first if order > 0 or (order == 0 and not first.low_closed) else second
    order = _order(first.high, second.high)
    high = first if order < 0 or (order == 0 and not first.high_closed) else second
    order = _order(low.low, high.high, unknown=-1)
    if order > 0 or (order == 0 and not (low.low_closed and high.high_closed)):
        return None
    return Interval(low.low, low.low_closed, high.high, high.high_closed)


def _touch(first: Interval, second: Interval) -> bool:
    order = _order(second.low, first.high)
    return order < 0 or (order == 0 and (second.low_closed or first.high_closed))


def _longer(first: Interval, second: Interval) -> Interval:
    order = _order(first.high, second.high)
    if order == 0:
        closed = first.high_closed or second.high_closed
        return Interval(first.low, first.low_closed, first.high, closed)
    far = first if order > 0 else second
    return Interval(first.low, first.low_closed, far.high, far.high_closed)


def _order(first: str, second: str, *, unknown: int | None = None) -> int:
    """-1, 0 or 1 as the first end is smaller than the second, the same, or larger."""
    if first == second:
        return 0
    try:
        one, other = _at(first), _at(second)
    except UnorderedError:
        # Everything lies between the infinities.
        if "-" + INFINITY in (first, second) or INFINITY in (first, second):
            return -1 if first == "-" + INFINITY or second == INFINITY else 1
        if unknown is None:
            raise
        return unknown
    if math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME):
        return 0
    return -1 if one < other else 1


@functools.lru_cache(maxsize=1024)
def _at(end: str) -> float:
    try:
        number = approximation(read(end))
    except UnreadableError:
        number = None
    if number is None or math.isnan(number):
        raise UnorderedError(end)
    return number
