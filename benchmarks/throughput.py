"""How many groups a synthetic fleet trains a second, from what its learner notes."""

import time
from collections.abc import Callable
from pathlib import Path

from actors.fleet.laws import notes_of


class Throughput:
    """Reads the notes of the run in `folder`; times are seconds since 1970, as the notes have them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def steps(self) -> list[tuple[float, int]]:
        """(moment, groups) of each version, as it was trained first."""
        found: dict[int, tuple[float, int]] = {}
        for note in notes_of(self._folder):
            if "trained" in note:
                found.setdefault(note["trained"], (note["seconds"], len(note["groups"])))
        return sorted(found.values())

    def between(self, begin: float, end: float) -> float:
        """Groups a second between two moments, counted from step to step, so that no step is counted in part."""
        steps = [step for step in self.steps() if begin <= step[0] <= end]
        if len(steps) < 2:
            return 0.0
        return sum(groups for _, groups in steps[1:]) / (steps[-1][0] - steps[0][0])

    def in_window(self, begin: float, seconds: float) -> float:
        """Groups in so many seconds, by the second: what is missing at the end counts as missing."""
        return sum(groups for moment, groups in self.steps() if begin <= moment < begin + seconds) / seconds


def first_moment(
    rate: Callable[[float], float], least: float, begin: float, window: float, patience: float, step: float = 0.1
) -> float | None:
    """The first moment from `begin` on from which `rate` is at least `least` over a window (s); None where it does not
    come within `patience` (s).
    """
    moment = begin
    while moment - begin < patience:
        while time.time() < moment + window:
            time.sleep(0.05)
        if rate(moment) >= least:
            return moment
        moment += step
    return None
