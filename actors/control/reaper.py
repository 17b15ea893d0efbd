"""A process that outlives a run by a moment, and leaves nothing of it behind.

    python -I -S reaper.py RUN_ID FOLDER < pipe

It waits for the end of its standard input, which the kernel closes however the run's first process ended, kills every
process that carries the run's mark in its environment or has a file of the run's temporary folder open (those that name
themselves, as Ray's do, write their title over their environment), and deletes that folder with all its sockets.
Standard library only: it starts in milliseconds and shares nothing with the run.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "LEEWAY_RUN"
#: Processes may still be starting others while they are being killed; a few rounds catch those (s).
SWEEP_SECONDS = 10.0


def marked(run: str, folder: str | None = None) -> list[int]:
    """Processes of this machine whose environment carries the run's mark, or that use its folder and have none left."""
    wanted, found = f"{MARK}={run}".encode(), []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        if pid in (os.getpid(), os.getppid()):
            continue
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if wanted in environment.split(b"\0") or (folder and _overwritten(environment) and _uses(pid, folder)):
                found.append(pid)
        except OSError:
            continue  # gone, or not ours to look into
    return found


def _overwritten(environment: bytes) -> bool:
    return b"=" not in environment.split(b"\0", 1)[0]


def _uses(pid: int, folder: str) -> bool:
    return any(str(file.readlink()).startswith(f"{folder}/") for file in Path(f"/proc/{pid}/fd").iterdir())


def alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be reaped does not.

    The first thread may have ended long before the others, which still hold all that the process has: files, sockets,
    memory of a GPU.
    """
    try:
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        return not ended or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


def sweep(run: str, folder: str) -> list[int]:
    """Kill and delete; returns the processes that would not go."""
    deadline = time.monotonic() + SWEEP_SECONDS
    found: set[int] = set()
    while True:
        found.update(marked(run, folder))
        left = [pid for pid in found if alive(pid)]  # one whose first thread has ended shows no mark any more
        if not left or time.monotonic() > deadline:
            break
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue  # it went by itself
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)
    return left


def main() -> None:
    run, folder = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    if left := sweep(run, folder):
        sys.exit(f"these processes of run {run} did not end: {left}")


if __name__ == "__main__":
    main()
