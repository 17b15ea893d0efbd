"""Secrets in files: read only where nobody else can read them, written so that nobody else ever could."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sandbox.errors import InputError

#: No secret of ours is longer (bytes).
_LONGEST = 4096


def read_secret(path: Path) -> str:
    """The one word in a file.

    PostgreSQL's rule for key files: nobody but the owner may read it, and the group of a file that root owns, which is
    how Kubernetes mounts a Secret for a pod with `fsGroup`.

    Raises:
        InputError: it cannot be read, others can read it, or it does not hold one word of printable ASCII.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait where it is a pipe
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: is no file")
        if status.st_mode & (0o027 if status.st_uid == 0 else 0o077):
            raise InputError(f"{path}: others than its owner can read or change this secret; `chmod 600 {path}`")
        content = os.read(descriptor, _LONGEST + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return require_word(content.decode("ascii", "replace").strip(), str(path))


def require_word(secret: str, where: str) -> str:
    """A secret as it may stand in an HTTP header; the error does not quote it.

    Raises:
        InputError: it is empty, too long, or has other characters than printable ASCII without spaces.
    """
    if not (0 < len(secret) <= _LONGEST and secret.isascii() and secret.isprintable() and " " not in secret):
        raise InputError(f"{where}: has to hold one word of printable ASCII characters")
    return secret


def write_secret(path: Path, secret: str) -> None:
    """Make a file that its owner alone can read.

    Raises:
        FileExistsError: there is one already.
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{secret}\n")
