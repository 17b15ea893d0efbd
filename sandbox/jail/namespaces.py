"""One more isolation layer where the kernel offers it: namespaces, and a root with only what programs read.

Nothing relies on it: ordinary pods refuse it, and Landlock and seccomp hold without it. What it adds is that paths
outside cannot even be seen to exist (Landlock does not cover `stat`), that there is no network interface, and another
host name.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from sandbox.jail import scratch

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_DEVICES = ("/dev/null", "/dev/urandom", "/dev/zero")
# Programs ask whether these exist before they open them, which `emulation` sees to.
_STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr")
# Where the new root is put together; the old tree is out of reach afterwards, so any empty directory will do.
_STAGING_DIRECTORIES = ("/mnt", "/media", "/srv", "/opt")


def separate(libc: ctypes.CDLL, readable: list[str], scratch_bytes: int = 0) -> str:
    """Move this single-threaded process into namespaces and a root of its own, as far as that is allowed.

    Args:
        libc: the C library, opened with `use_errno`.
        readable: paths that programs may read; nothing else will be visible.
        scratch_bytes: size of a directory to write to in the new root; 0: none.

    Returns:
        What was achieved: "", "namespaces" or "namespaces, root".
    """
    flags = _CLONE_NEWIPC | _CLONE_NEWUTS | _CLONE_NEWNET | _CLONE_NEWNS
    if libc.unshare(flags) != 0:
        # Without capabilities, a user namespace gives them over the new namespaces and nothing else.
        uid, gid = os.getuid(), os.getgid()
        if uid == 0 or libc.unshare(flags | _CLONE_NEWUSER) != 0:
            return ""
        for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs start-up time
                file.write(line)
    libc.sethostname(b"sandbox", 7)
    return "namespaces, root" if _new_root(libc, readable, scratch_bytes) else "namespaces"


def _new_root(libc: ctypes.CDLL, readable: list[str], scratch_bytes: int) -> bool:
    """Enter a read-only tmpfs with `readable` bound into it; False, with the old root still there, if that fails."""
    paths = _outermost([os.path.realpath(path) for path in readable] + readable)
    staging = next((path for path in _STAGING_DIRECTORIES if os.path.isdir(path) and not _holds(path, paths)), None)  # noqa: PTH112
    if staging is None or libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        return False
    if libc.mount(b"sandbox", staging.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, b"size=1m,mode=755") != 0:
        return False
    try:
        for path in [*paths, *_DEVICES]:
            _bind(libc, path, staging)
        for path in _STREAMS:
            os.close(os.open(staging + path, os.O_CREAT | os.O_WRONLY))
        if scratch_bytes:
            scratch.mount(libc, staging + scratch.DIRECTORY, scratch_bytes)
        flags = _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV
        if libc.mount(None, staging.encode(), None, flags, None) != 0:
            raise OSError("remount failed")
        os.chroot(staging)
        os.chdir("/")
    except OSError:
        return False
    return True


def _bind(libc: ctypes.CDLL, path: str, staging: str) -> None:
    target = staging + path
    if os.path.isdir(path):  # noqa: PTH112 - pathlib costs start-up time
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    elif os.path.exists(path):  # noqa: PTH110
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    else:
        return
    if libc.mount(path.encode(), target.encode(), None, _MS_BIND | _MS_REC, None) != 0:
        raise OSError(ctypes.get_errno(), f"cannot bind {path}")
    if not path.startswith("/dev/"):
        # Mount options that are locked by the outer namespace must be repeated; Landlock keeps it read-only anyway.
        with suppress(OSError):
            libc.mount(None, target.encode(), None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV, None)


def _outermost(paths: list[str]) -> list[str]:
    """`paths` without those beneath others of them, shortest first."""
    kept: list[str] = []
    for path in sorted(set(paths), key=len):
        if not any(path.startswith(f"{other}/") for other in kept):
            kept.append(path)
    return kept


def _holds(directory: str, paths: list[str]) -> bool:
    return any(path == directory or path.startswith(f"{directory}/") for path in paths)
