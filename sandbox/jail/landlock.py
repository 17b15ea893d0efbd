"""Landlock: which files a process may read, and that it may change, bind, connect to and signal nothing else.

Source: Linux, include/uapi/linux/landlock.h and Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

READ_FILE, READ_DIRECTORY, WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
# Everything but executing, and making devices, sockets, pipes and symbolic links.
ALL_BUT_SPECIAL = WRITE_FILE | READ_FILE | READ_DIRECTORY | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13 | 1 << 14
_FILE_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 5: 16}
_NET_RIGHTS = 0b11  # bind and connect of TCP, from ABI 4
_SCOPES = 0b11  # abstract unix sockets and signals, from ABI 6


def abi(libc: ctypes.CDLL) -> int:
    """The version of Landlock this kernel speaks; 0 if none."""
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def ruleset(libc: ctypes.CDLL, rules: Iterable[tuple[str, int]]) -> int:
    """A ruleset that refuses everything but `rules`, as a file descriptor.

    Args:
        libc: the C library, opened with `use_errno`.
        rules: pairs of a path and the rights (`READ_FILE`, ...) granted at and beneath it; missing paths are skipped.

    Raises:
        OSError: this kernel has no Landlock.
    """
    version = abi(libc)
    fields = [_file_rights(version)]
    if version >= 4:
        fields.append(_NET_RIGHTS)
    if version >= 6:
        fields.append(_SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    made = int(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    if made < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset failed")
    for path, rights in rules:
        allow(libc, made, path, rights)
    return made


def _file_rights(version: int) -> int:
    """Every right about files that this version of Landlock can refuse."""
    return (1 << max((bits for since, bits in _FILE_RIGHTS_BY_ABI.items() if since <= version), default=0)) - 1


def allow(libc: ctypes.CDLL, ruleset_fd: int, path: str, rights: int) -> None:
    """Grant more to who will be under a ruleset. A path that is missing is skipped.

    Raises:
        OSError: the kernel refused it.
    """
    rights &= _file_rights(abi(libc))
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= ~READ_DIRECTORY
        rule = struct.pack("=Qi", rights, handle)
        if libc.syscall(_ADD_RULE, ruleset_fd, _PATH_BENEATH, rule, 0) != 0:
            raise OSError(ctypes.get_errno(), f"landlock_add_rule failed for {path}")
    finally:
        os.close(handle)


def restrict(libc: ctypes.CDLL, ruleset_fd: int) -> None:
    """Put the calling thread, and all it starts, under the ruleset. Needs no_new_privs.

    Raises:
        OSError: the kernel refused it.
    """
    if libc.syscall(_RESTRICT_SELF, ruleset_fd, 0) != 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self failed")
