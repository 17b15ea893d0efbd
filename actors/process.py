"""What every process of a run does first: a log file, and nothing that it or its children print is lost."""

import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.interrupts import SIGNALS

log = logging.getLogger(__name__)


def log_to(folder: Path, name: str) -> None:
    """Log to `folder`/logs/`name`.log from now on."""
    handler = logging.FileHandler(_log_file(folder, name))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    log.info("process %d", os.getpid())


def print_to_log(folder: Path, name: str) -> None:
    """Let standard output and error of this process, and of all that it starts, go to `folder`/logs/`name`.log.

    An engine's workers are processes that only print why they die, and so does native code that crashes.
    """
    with _log_file(folder, name).open("ab") as file:
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            os.dup2(file.fileno(), descriptor)


def _log_file(folder: Path, name: str) -> Path:
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return logs / f"{name}.log"


def outlive_signals(on_terminate: Callable[[], None]) -> None:
    """Let this process, on whose work others wait, end when the driver ends it and not when a signal says so.

    Whole process groups and containers are signalled at once, too. Children have the usual behaviour. In the main
    thread, before any other is started.

    Args:
        on_terminate: called for every SIGTERM, from a thread of its own: the main one may be in native code, where
            Python's handlers wait until it comes back.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)  # SIG_IGN would be inherited
        signal.siginterrupt(number, False)
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child's signals are not this process's
    threading.Thread(target=_hear, args=(told, on_terminate), name="signals", daemon=True).start()


def _hear(told: int, on_terminate: Callable[[], None]) -> None:
    while numbers := os.read(told, 100):
        for _ in range(numbers.count(signal.SIGTERM)):
            on_terminate()


class Seldom:
    """Logs what a peer can cause without an end: one line in so many seconds, with how many were left out."""

    def __init__(
        self, logger: logging.Logger, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._seconds, self._clock = logger, seconds, clock
        self._last, self._left_out = float("-inf"), 0

    def warning(self, text: str, *arguments: object) -> None:
        now = self._clock()
        if now - self._last < self._seconds:
            self._left_out += 1
            return
        if self._left_out:
            text, arguments = f"{text} (and %d more like it since)", (*arguments, self._left_out)
        self._logger.warning(text, *arguments)
        self._last, self._left_out = now, 0


def take_signals() -> None:
    """Let processes that the calling thread starts get the signals, which the driver blocks for all that it starts."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def logged(run: Callable[..., None]) -> Callable[..., None]:
    """A process's main function that leaves its traceback in the log before it dies of it."""

    @functools.wraps(run)
    def wrapper(*arguments: Any) -> None:
        try:
            run(*arguments)
        except Exception:
            log.exception("this process ends")
            raise

    return wrapper
