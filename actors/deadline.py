"""Waiting for a condition, and trying again, with an end."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

#: Longest pause between two attempts (s).
MAX_PAUSE_SECONDS = 30.0
T = TypeVar("T")


def until(condition: Callable[[], bool], seconds: float, interval: float = 0.02) -> bool:
    """Poll until the condition holds; False where it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def persistently(action: Callable[[], T], again: type[Exception], seconds: float, pause: float = 1.0) -> T:
    """What an action returns, tried again where it raises `again`: after `pause` seconds, then twice as long each time.

    Raises:
        Exception: what it raised last, where the next attempt would begin after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except again as error:
            if time.monotonic() + pause > deadline:
                raise
            log.warning("%s; tried again in %g s", error, pause)
        time.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_SECONDS)
