"""Ending a process that nobody needs any more: its replay and its controller are both away for too long."""

import logging
import os
import threading
import time
from collections.abc import Callable

from actors.transport.lifeline import Lifeline

log = logging.getLogger(__name__)

#: Looks within the time that makes a process an orphan.
LOOKS = 20


def when_orphaned(lifeline: Lifeline, seconds: float, stop: Callable[[], None], grace_seconds: float) -> None:
    """Watch over this process from a thread of its own; where it is an orphan, end it.

    Args:
        lifeline: of the process.
        seconds: it is an orphan after so long without a word from the replay and from the controller (s).
        stop: asks its role to end.
        grace_seconds: time that the role has for that (s). Then the process ends, which has nobody to report to.
    """

    def watch() -> None:
        while (alone := lifeline.alone(seconds / LOOKS)) < seconds:
            time.sleep(seconds / LOOKS)
        log.error("neither the replay nor the controller was heard of for %.0f s: this process ends by itself", alone)
        stop()
        time.sleep(grace_seconds)
        logging.shutdown()
        os._exit(1)

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()
