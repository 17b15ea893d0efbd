"""Makes the memory of a fork server cheap to inherit. Nothing here is needed: what a kernel refuses is left as it is.

A fork copies a page table, and its child gives every page back: a third of a microsecond for each page. What the table
does not hold, a child has to look up when it touches it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

_MADV_COLLAPSE = 25
_HUGE = 1 << 21
# Of a file that is mapped; smaller ones are not worth the copies of their tables.
_LARGE = 1 << 20


def settle(libc: ctypes.CDLL) -> None:
    """Put objects on huge pages, and have forks inherit the page tables of code as well; once, before any fork."""
    files = []
    for low, high, mode, path in _mappings():
        if path.startswith("/"):
            if mode in ("r-xp", "r--p") and high - low >= _LARGE:
                files.append(low)
        elif mode == "rw-p" and not path.startswith("[stack"):
            start = -(-low // _HUGE) * _HUGE
            for address in range(start, high - _HUGE + 1, _HUGE):
                # Linux 6.1, whether or not huge pages are used otherwise.
                libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(_HUGE), _MADV_COLLAPSE)
    # The kernel copies tables of mappings only that have a page of their own. Writing through this file makes one
    # without making code writable.
    with contextlib.suppress(OSError), open("/proc/self/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
        for low in files:
            memory.seek(low)
            byte = memory.read(1)
            memory.seek(low)
            memory.write(byte)


def _mappings() -> Iterator[tuple[int, int, str, str]]:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - pathlib costs pages
        for line in maps:
            span, mode, _, _, _, *path = line.split(None, 5)
            low, high = span.split("-")
            yield int(low, 16), int(high, 16), mode, path[0].strip() if path else ""
