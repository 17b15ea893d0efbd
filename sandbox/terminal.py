"""Standard streams as a display may use them: what is shown is not the work, and must not end it."""

from __future__ import annotations

import codecs
import io
import os
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console

#: What stands in for a character that an encoding lacks; of the same width, so that columns stay columns.
_PLAIN = str.maketrans("█▉▊▋▌▍▎▏▁▂▃▄▅▆▇━╸╺–…⟨⟩", "#####   _.-=+*%----.<>")
_ERRORS = "leeway.plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return "".join(c if c.isascii() else "?" for c in text), error.end


codecs.register_error(_ERRORS, _plain)


class Terminal(io.TextIOBase):
    """A stream that replaces what its encoding lacks, and falls silent where nothing can be written any more.

    A reader that has seen enough, a full disk and a terminal that was closed are no reasons to end what is shown.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._gone = stream, False
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return not self._gone and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, operation: Any, *arguments: str) -> None:
        if self._gone:
            return
        try:
            operation(*arguments)
        except (OSError, ValueError):  # ValueError: it was closed
            self._gone = True
            discard(self._stream)


def discard(stream: TextIO) -> None:
    """Let what is in a stream's buffer, and all that comes, go to nobody: nothing of it can be written at exit."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def lasting(console: Console) -> Console:
    """The console, which from now on writes to a `Terminal`."""
    if not isinstance(console.file, Terminal):
        console.file = Terminal(console.file)  # type: ignore[assignment, arg-type]
    return console
