"""Tracebacks of programs: their own frames and source, as a usual interpreter prints them, and no path of ours."""

from __future__ import annotations

import linecache
import os
import sys
import traceback
from types import TracebackType

_OURS = os.path.dirname(__file__)  # noqa: PTH120 - pathlib costs start-up time
_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120
_MAX_FRAMES = 100


def show(error: BaseException, source: str) -> None:
    """Write the traceback of an exception that ended the program to its standard error."""
    linecache.cache["program.py"] = (len(source), None, source.splitlines(keepends=True), "program.py")
    made = traceback.TracebackException(type(error), error, _without_ours(error.__traceback__), limit=-_MAX_FRAMES)
    _strip(made, set())
    text = "".join(made.format())
    for path, name in _names():
        text = text.replace(path, name)
    sys.stderr.write(text)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace


def _strip(made: traceback.TracebackException, seen: set[int]) -> None:
    """Take our frames out of a traceback, and out of those that led to it."""
    if id(made) in seen:
        return
    seen.add(id(made))
    made.stack[:] = [frame for frame in made.stack if not frame.filename.startswith(_OURS)]
    for other in (made.__cause__, made.__context__, *(made.exceptions or ())):
        if other is not None:
            _strip(other, seen)


def _names() -> list[tuple[str, str]]:
    """What to write in place of directories of this machine, the longest first."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = {f"{path}/": "" for path in sys.path if len(path) > 1}
    found |= {f"{_LIBRARY}/": f"{version}/", f"{os.getcwd()}/": "", f"{_OURS}/": "sandbox/"}  # noqa: PTH109
    return sorted(((path, name) for path, name in found.items() if len(path) > 1), key=lambda pair: -len(pair[0]))
