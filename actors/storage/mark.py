"""Whether two nodes see the same run folder: the driver leaves a mark there, and every process looks for it."""

import secrets
import socket
from pathlib import Path

from actors.deadline import until
from actors.errors import RunError
from learner.files import write_atomically

#: The file of a run folder, new with every start of the run.
MARK = "mark"
#: How long a node may take to see it: NFS clients believe what they know of a folder for a minute (`acdirmax`).
SECONDS = 60.0


def leave_mark(folder: Path) -> str:
    """Mark a run folder anew; what is returned goes to every process of the run.

    Raises:
        RunError: it cannot be written.
    """
    mark = f"{secrets.token_hex(8)} {socket.gethostname()}"
    try:
        write_atomically(folder / MARK, mark)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror})") from error
    return mark


def require_mark(folder: Path, mark: str, seconds: float) -> None:
    """Raises RunError where this node does not see the folder that was marked within `seconds`, or `SECONDS` where that
    is shorter; it says which node sees what."""
    if until(lambda: _found(folder) == mark, min(seconds, SECONDS), interval=0.25):
        return
    here, there, found = socket.gethostname(), mark.partition(" ")[2], _found(folder)
    seen = f"another folder, which was marked on {found.partition(' ')[2]}," if found else "no run folder"
    raise RunError(
        f"{here} sees {seen} under {folder}, where {there}, which has started the run, sees the run's; set output to a "
        "folder on storage that every node of the cluster sees under the same path"
    )


def _found(folder: Path) -> str:
    try:
        return (folder / MARK).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
