"""What every process of a run does first: a log file, and nothing that it or its children print is lost."""

import functools
import logging
import os
import signal
import sys
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


def outlive_signals() -> None:
    """Let this process, on whose work others wait, end when the driver ends it and not when a signal says so.

    Whole process groups and containers are signalled at once, too. Children have the usual behaviour. In the main
    thread, before any other is started.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)  # SIG_IGN would be inherited
        signal.siginterrupt(number, False)


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
