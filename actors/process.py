"""What every process of a run does first: a log file."""

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def log_to(folder: Path, name: str) -> None:
    """Log to `folder`/logs/`name`.log from now on."""
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(logs / f"{name}.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    log.info("process %d", os.getpid())


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
