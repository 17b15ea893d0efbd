"""Threads that nobody waits for.

A rank that dies inside a collective leaves the others blocked in a library that cannot be interrupted. Such a call runs
here: who waits for it can give up, and the interpreter's exit does not wait for it either (that of an executor does).
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

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
