"""Waiting for what a fleet comes to, without a fleet."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.errors import RunError
from actors.fleet.fleet import Fleet


class Ending(Fleet):
    """One of which only the end is there."""

    def __init__(self) -> None:
        self.folder, self._ended, self._outcome = Path("/runs/a"), threading.Event(), "its learner gave up"

    def end_and(self, found: bool) -> Callable[[], bool]:
        """A condition amid whose look the run ends."""

        def look() -> bool:
            self._ended.set()
            return found

        return look


def test_what_came_true_counts_although_it_is_over_and_the_run_has_ended_since() -> None:
    fleet, looks = Ending(), iter([True, False])
    fleet.wait_for("a moment", lambda: next(looks), 60.0)
    fleet.wait_for("the last step", fleet.end_and(True), 60.0)


def test_a_run_that_ended_before_it_came_true_says_why() -> None:
    fleet, looks = Ending(), iter([False, True])
    fleet.wait_for("a step on record at the end", lambda: fleet.end_and(next(looks))(), 60.0)
    with pytest.raises(RunError, match="the run ended before another one: its learner gave up"):
        fleet.wait_for("another one", lambda: False, 60.0)
