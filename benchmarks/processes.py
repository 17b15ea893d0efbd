"""What the processes started by this one are, and how much memory they have used, read from /proc."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def children(pid: int) -> set[int]:
    """Process ids of the living children of a process."""
    found: set[int] = set()
    with suppress(OSError):  # it, or one of its threads, may end at any instant
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def descendants(pid: int) -> set[int]:
    """Process ids of all living descendants."""
    found, pending = set[int](), [pid]
    while pending:
        new = children(pending.pop()) - found
        found |= new
        pending += new
    return found


def in_sessions(sessions: set[int]) -> set[int]:
    """Living processes of these sessions, whoever their parent is by now."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError):
            state, *fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) in sessions and state != "Z":
                found.add(int(entry.name))
    return found


def resident_bytes(pid: int | str = "self") -> int:
    """Resident memory now, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def peak_bytes(pid: int) -> int:
    """Largest resident memory so far, bytes; 0 for a process that is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far (s), in steps of a hundredth; 0 for one that is gone."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def descriptors() -> dict[str, str]:
    """Open descriptors of this process and what they refer to, without the one that lists them."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found[entry.name] = str(entry.readlink())
    return {fd: what for fd, what in found.items() if what != f"/proc/{os.getpid()}/fd"}


def _command(pid: int | str) -> bytes:
    """The command line of a process; empty for one that is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


class Watcher(threading.Thread):
    """Samples the children that this process starts from now on, which are leaders of their sessions, until `end`.

    Attributes:
        sessions: every such child seen.
        worker_bytes, fork_server_bytes, program_bytes: largest resident memory of one process of each kind.
    """

    def __init__(self, every_seconds: float = 0.1) -> None:
        super().__init__(name="watcher", daemon=True)
        self.sessions: set[int] = set()
        self.worker_bytes = self.fork_server_bytes = self.program_bytes = 0
        self._every, self._others = every_seconds, children(os.getpid())
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._every):
            self.sample()

    def sample(self) -> None:
        """Look once."""
        for pid in self.started():
            self.sessions.add(pid)
            if b"sandbox.grading.worker" in _command(pid):
                self.worker_bytes = max(self.worker_bytes, *map(peak_bytes, (pid, *children(pid))))
                continue
            self.fork_server_bytes = max(self.fork_server_bytes, peak_bytes(pid))
            for program in children(pid):
                self.program_bytes = max(self.program_bytes, peak_bytes(program))

    def started(self) -> set[int]:
        """The living children that were started since. One that was forked and runs nothing else yet is no child to
        look at: its memory is a copy of this process's.
        """
        own = _command("self")
        return {pid for pid in children(os.getpid()) - self._others if _command(pid) not in (own, b"")}

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self.join(10)
