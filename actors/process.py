"""What every process of a run does first: a log file, and metrics."""

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.observability import metrics
from actors.transport.address import Node, bind_port

log = logging.getLogger(__name__)


def begin(name: str, folder: Path, node: Node) -> str:
    """Log to `folder`/logs/`name`.log, and serve the process's metrics until it ends.

    Returns:
        `host:port` of its /metrics, as others reach it.

    Raises:
        RunError: where no port is free for the metrics.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(logs / f"{name}.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    log.info("process %d", os.getpid())
    server = bind_port(node, lambda port: metrics.serve(node.bind, port))
    return node.at(server.server_port)


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
