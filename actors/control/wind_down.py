"""Ending a run in good order: every step is taken, whatever becomes of the others, and all of them fit in one time."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Budget:
    """Seconds for all steps together, from now on."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock, self._began = seconds, clock, clock()

    def until(self, share: float) -> float:
        """What is left until a share of the time is used up (s), such as 0.6: whatever comes later has the rest."""
        return max(0.0, self._began + share * self._seconds - self._clock())


def carry_out(*steps: tuple[str, Callable[[], object]]) -> list[str]:
    """Take the steps in order; one that fails is logged.

    Returns:
        What failed, in words; empty where nothing did.
    """
    broken = []
    for name, step in steps:
        try:
            step()
        except Exception as error:
            log.exception("winding down: %s failed", name)
            broken.append(f"{name} failed: {type(error).__name__}: {error}")
    return broken
