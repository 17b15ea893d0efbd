"""Who in this process waits for whom, for what, and since when. Every wait that can become long has a name here.

    with waiting("replay", "take_batch"):
        ...

What takes longer than `REPORTED_SECONDS` goes into the heartbeat, and from there to `leeway status`; all of it is
counted in `leeway_wait_seconds_total`.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

from actors.membership import Wait
from actors.observability.exposition import EVERY
from actors.observability.seconds import SecondsCounter

#: From so long on a wait is reported (s): what a run does in the ordinary course takes less.
REPORTED_SECONDS = 5.0
#: The longest ones that a process reports.
MOST = 8

WAITED = SecondsCounter("leeway_wait_seconds", "Time in which the process waited, by whom or what for", "on", EVERY)

_numbers = itertools.count()
#: By number: whom, for what, since when. Threads add and take away whole entries of their own.
_current: dict[int, tuple[str, str, float]] = {}


@contextmanager
def waiting(on: str, what: str, counted_as: str = "") -> Iterator[None]:
    """The body waits for somebody.

    Args:
        on: whom: a process, a role, or a part of this process.
        what: what it is to do.
        counted_as: the label of the time, where `on` is one of many names or says too little.
    """
    number = next(_numbers)
    _current[number] = (on, what, time.monotonic())
    try:
        with WAITED.counted(counted_as or on):
            yield
    finally:
        del _current[number]


def long_waits(at_least: float = REPORTED_SECONDS) -> tuple[Wait, ...]:
    """The waits of this process that have taken so long (s), longest first."""
    now = time.monotonic()
    found = [Wait(on=on, what=what, seconds=now - since) for on, what, since in list(_current.values())]
    return tuple(sorted((w for w in found if w.seconds >= at_least), key=lambda w: -w.seconds)[:MOST])
