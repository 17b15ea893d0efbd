"""Waiting for a condition, and trying again, with an end."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

#: Longest pause between two attempts (s).
MAX_PAUSE_SECONDS = 30.0
T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def until(condition: Callable[[], bool], seconds: float, interval: float = 0.02) -> bool:
    """Poll until the condition holds; False where it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() > deadline  # as of before it looks: a process that stood still looks once more
        if condition():
            return True
        if late:
            return False
        time.sleep(interval)


def persistently(
    action: Callable[[], T],
    again: type[E],
    seconds: float,
    pause: float = 1.0,
    *,
    asked: Callable[[E], float] = lambda _: 0.0,
    warn: Callable[..., None] = log.warning,
) -> T:
    """What an action returns, tried again where it raises `again`: after `pause` seconds, then twice as long each time.

    Args:
        action: what is tried.
        again: what may go well another time.
        seconds: when no attempt is begun any more (s).
        pause: before the second attempt (s).
        asked: how long a failure asks to wait, at least (s).
        warn: told of each failure, as a logger is.

    Raises:
        Exception: what it raised last, where the next attempt would begin after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except again as error:
            wait = max(pause, asked(error))
            if time.monotonic() + wait > deadline:
                raise
            warn("%s; tried again in %g s", error, wait)
        time.sleep(wait)
        pause = min(2 * pause, MAX_PAUSE_SECONDS)
