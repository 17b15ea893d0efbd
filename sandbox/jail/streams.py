"""Standard streams of a run: as a new interpreter would have them, and left as its end would leave them."""

from __future__ import annotations

import atexit
import contextlib
import io
import sys
import threading
from typing import Any


def fresh() -> None:
    """New stream objects on the descriptors of this run."""
    sys.stdin = sys.__stdin__ = _stream(0, "r", "<stdin>")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "w", "<stdout>")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w", "<stderr>")  # type: ignore[misc]


def _stream(fd: int, mode: str, name: str) -> io.TextIOWrapper:
    raw = io.FileIO(fd, mode, closefd=False)
    # Programs that wrap the streams for speed ask for name and mode.
    raw.name = name
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    errors = "backslashreplace" if fd == 2 else "strict"
    text = io.TextIOWrapper(buffer, encoding="utf-8", errors=errors)
    text.mode = mode  # type: ignore[misc]
    return text


def finish(code: int, namespace: dict[str, Any]) -> int:
    """What the interpreter does at its end, without the time it takes to dismantle itself; the exit status."""
    try:
        if threading.active_count() > 1:
            threading._shutdown()  # type: ignore[attr-defined]  # waits for non-daemon threads, as an exit would
        atexit._run_exitfuncs()
        _flush(sys.stdout, sys.stderr)
    except BaseException:  # noqa: BLE001 - a program whose output cannot be written has failed
        return code or 120
    # Files of the program's own on its standard output are written when they are dropped. Errors count no more.
    with contextlib.suppress(BaseException):
        namespace.clear()
        _flush(sys.stdout, sys.stderr)
    with contextlib.suppress(BaseException):
        # A program may have taken its buffer away.
        _flush(sys.__stdout__)
    return code


def _flush(*streams: Any) -> None:
    for stream in streams:
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()
