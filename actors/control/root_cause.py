"""Why a process died: its own last error in one line, without the traceback around it."""

import re
from pathlib import Path

#: How much of the end of a log is looked at (bytes): a traceback of vLLM's is a few thousand.
TAIL_BYTES = 2**18
#: `ValueError: it must be 32`, `package.SomeError: …`, with whatever a logger writes before it.
_ERROR = re.compile(r"(?:^|[\s\]])((?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt): \S.*)$")
#: How errors begin that only point to another one.
_POINTERS = ("root cause", "traceback above")
_SHOWN = 400


def last_error(log: Path) -> str | None:
    """The last error in a log that does not only point to an earlier one; None where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for number, line in reversed(list(enumerate(lines))):
        found = _ERROR.search(line)
        if found and not any(word in line.lower() for word in _POINTERS):
            return in_one_line("\n".join([found[1], *_rest(lines[number + 1 :])]))
    return None


def _rest(lines: list[str]) -> list[str]:
    """The lines after the first of a message: they are indented, as those of pydantic's errors are."""
    rest = []
    for line in lines[:6]:
        if not line.startswith("  ") or line.lstrip().startswith(("File ", "^")):
            break
        rest.append(line)
    return rest


def in_one_line(message: str) -> str:
    """A message without line breaks, and without pydantic's pointer to its documentation."""
    lines = [line.strip() for line in message.splitlines() if not line.strip().startswith("For further information")]
    text = " ".join(" ".join(lines).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
