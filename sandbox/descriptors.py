"""File descriptors on their way to a child."""

from __future__ import annotations

import fcntl
import os


def sealed(content: bytes) -> int:
    """A memory file that nobody can change any more, positioned at its start."""
    fd = os.memfd_create("leeway", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    written = 0
    while written < len(content):
        written += os.pwrite(fd, memoryview(content)[written:], written)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd


class Descriptors:
    """Descriptors that only the child needs, closed here as soon as it has them."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    def add(self, fd: int) -> int:
        """Take over a descriptor."""
        self._fds.append(fd)
        return fd

    def null(self) -> int:
        """A new descriptor of /dev/null, to write to."""
        return self.add(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Close them all; may be called twice."""
        while self._fds:
            os.close(self._fds.pop())

    def __enter__(self) -> Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
