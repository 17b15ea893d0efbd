"""Whose memory is whose, among real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from actors.deadline import until
from benchmarks.processes import Watcher

WAITS = "import time; time.sleep(600)"


@contextmanager
def child() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", WAITS]) as process:
        yield process.pid
        process.kill()


@contextmanager
def copy_of_this_process() -> Iterator[int]:
    """What a child is between its fork and its exec, with all the memory of its parent."""
    pid = os.fork()
    if not pid:
        signal.pause()
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_watcher_looks_at_what_was_started_since_and_runs_a_program_of_its_own() -> None:
    with child():
        watcher = Watcher()
        with child() as later, copy_of_this_process():
            assert until(lambda: watcher.started() == {later}, 30)
            watcher.sample()
            assert watcher.sessions == {later}
            assert watcher.fork_server_bytes > 0
        assert watcher.started() == set()
