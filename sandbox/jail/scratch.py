"""The directory of a run's own, where the fork server that serves only this run starts its child.

Where the fork server has a root of its own, it is a tmpfs of limited size that programs may write to; it ends with the
fork server. Elsewhere it is the directory in which the pool laid out the input files, and programs may only read it:
nothing but a mount limits how much somebody writes.
"""

from __future__ import annotations

import ctypes
import os

from sandbox.jail import landlock

DIRECTORY = "/scratch"
_ENTRIES = 1024
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8

Tree = list[tuple[str, bytes]]


def read(source: str) -> Tree:
    """The files beneath a directory, before it is out of reach."""
    tree: Tree = []
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - pathlib costs start-up time
            with open(path, "rb") as file:  # noqa: PTH123
                tree.append((os.path.relpath(path, source), file.read()))
    return tree


def mount(libc: ctypes.CDLL, target: str, size: int) -> None:
    """Mount the tmpfs in a root that is being put together.

    Args:
        libc: the C library, opened with `use_errno`.
        target: where; made if it is missing.
        size: limit of its files, bytes.

    Raises:
        OSError: the kernel refused it.
    """
    os.makedirs(target, exist_ok=True)  # noqa: PTH103
    options = f"size={size},nr_inodes={_ENTRIES},mode=777".encode()
    if libc.mount(b"scratch", target.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options) != 0:
        raise OSError(ctypes.get_errno(), "cannot mount a scratch directory")


def occupy(libc: ctypes.CDLL, ruleset: int | None, source: str, tree: Tree, *, mounted: bool) -> int | None:
    """Move this process, and so its children, into the directory, and let Landlock's ruleset allow it.

    Args:
        libc: the C library, opened with `use_errno`.
        ruleset: descriptor, or None without Landlock.
        source: where the pool laid out the input files.
        tree: their contents.
        mounted: the tmpfs is there.

    Returns:
        A descriptor of the directory if programs may write to it.
    """
    if not mounted:
        os.chdir(source)
        if ruleset is not None:
            landlock.allow(libc, ruleset, source, landlock.READ_FILE | landlock.READ_DIRECTORY)
        return None
    os.chdir(DIRECTORY)
    usual = os.umask(0)
    for path, content in tree:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(content)
    os.umask(usual)
    if ruleset is not None:
        landlock.allow(libc, ruleset, DIRECTORY, landlock.ALL_BUT_SPECIAL)
    return os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
