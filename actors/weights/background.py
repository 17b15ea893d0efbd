"""Threads that nobody waits for.

A rank that dies inside a collective leaves the others blocked in a library that cannot be interrupted. Such a call runs
here: who waits for it can give up, and the interpreter's exit does not wait for it either (that of an executor does).
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from actors.errors import RunError

T = TypeVar("T")


def in_background(function: Callable[[], T], name: str) -> Future[T]:
    """Call a function in a daemon thread of its own; the future cannot be cancelled, only forgotten."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001 - raised again where the result is used
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


@dataclass(frozen=True, slots=True)
class AbandonedBroadcast:
    """One that was given up, whose thread has not come out of it; by `due` it has to."""

    work: Future[Any]
    to: str
    due: float


class Abandoned:
    """Broadcasts that were given up. One thread adds to them, any may check them."""

    def __init__(self) -> None:
        self._broadcasts: list[AbandonedBroadcast] = []

    def add(self, work: Future[Any], to: str, seconds: float) -> None:
        """Remember a broadcast to whoever `to` names, which has to end within so long (s)."""
        self.forget_ended()
        self._broadcasts = [*self._broadcasts, AbandonedBroadcast(work, to, time.monotonic() + seconds)]

    def forget_ended(self) -> None:
        """One that is over holds on to its snapshot, by the traceback of its error."""
        self._broadcasts = [broadcast for broadcast in self._broadcasts if not broadcast.work.done()]

    def check(self) -> None:
        """Raises RunError where one has not ended in time."""
        for broadcast in self._broadcasts:
            if not broadcast.work.done() and time.monotonic() > broadcast.due:
                raise RunError(
                    f"a broadcast of weights to {broadcast.to} does not end, though it was given up because of a "
                    "process that died in it; resume the run from its newest checkpoint"
                )
