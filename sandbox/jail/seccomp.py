"""Builds and installs the seccomp filter: a classic BPF program, assembled by hand so that nothing has to be installed.

The filter is an allowlist, searched by halves: when a child installs it, the kernel walks it once for every system call
there is, and walking a list takes longer than the rest of the installation. Conditional jumps never leave the block of
one system call, so no offset comes near BPF's limit of 255.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from collections.abc import Iterable

from sandbox.jail.syscalls import Architecture

_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_ABOVE_OR_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

_SIGKILL = 9
_CLONE_THREAD = 0x00010000
# PIDFD, PTRACE, VFORK, PARENT, UNTRACED and every CLONE_NEW*: nothing a thread library asks for.
_CLONE_REFUSED = 0x00001000 | 0x00002000 | 0x00004000 | 0x00008000 | 0x00800000 | 0x7E020000
# F_SETOWN, F_SETSIG and leases could make the kernel send any signal; F_SETPIPE_SZ enlarges kernel buffers.
_FCNTL_ALLOWED = (
    0,
    1,
    2,
    3,
    4,
    1030,
    1032,
)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
_IOCTL_ALLOWED = (0x5451, 0x5450, 0x541B)  # FIOCLEX, FIONCLEX, FIONREAD
_PRCTL_ALLOWED = (15, 16)  # PR_SET_NAME, PR_GET_NAME
# Calls from this number on are younger than 2019: libraries probe for them and want ENOSYS.
_YOUNG = 424

# Placeholder for the process's own id; no process id and no other constant of the filter is that large.
_UNKNOWN_PID = 0x7EADBEEF
_PID_FIELD = struct.Struct("=I")
_INSTRUCTION = struct.Struct("=HBBI")

Instruction = tuple[int, int, int, int]


def _errno(number: int) -> int:
    return _ERRNO | number


def _load(offset: int) -> Instruction:
    return (_LOAD, 0, 0, offset)


def _return(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _argument(index: int, *, high: bool = False) -> Instruction:
    # Both supported architectures are little-endian.
    return _load(_ARGUMENTS + 8 * index + (4 if high else 0))


def _one_of(index: int, values: Iterable[int], refusal: int) -> list[Instruction]:
    """Allow if the 32-bit argument is one of `values`."""
    tests = [part for value in values for part in ((_JUMP_EQUAL, 0, 1, value), _return(_ALLOW))]
    return [_argument(index), *tests, _return(refusal)]


def _own_process(pid: int, signal_index: int) -> list[Instruction]:
    """Allow a signal to the process itself, except SIGKILL: a SIGKILL that is not ours always came from outside."""
    return [
        _argument(0),
        (_JUMP_EQUAL, 1, 0, pid),
        _return(_errno(errno.EPERM)),
        _argument(signal_index),
        (_JUMP_EQUAL, 0, 1, _SIGKILL),
        _return(_errno(errno.EPERM)),
        _return(_ALLOW),
    ]


def _checked(name: str, pid: int) -> list[Instruction]:
    refuse = _errno(errno.EPERM)
    if name == "clone":
        return [
            _argument(0),
            (_JUMP_SET, 0, 2, _CLONE_THREAD),
            (_JUMP_SET, 1, 0, _CLONE_REFUSED),
            _return(_ALLOW),
            _return(refuse),
        ]
    if name == "clone3":
        return [_return(_errno(errno.ENOSYS))]
    if name in ("kill", "tgkill"):
        return _own_process(pid, 1 if name == "kill" else 2)
    if name == "setrlimit":
        # Pretended success: programs that ask for more stack continue, and no limit changes.
        return [_return(_errno(0))]
    if name == "prlimit64":
        # Reading its own limits is allowed; setting them is a pretended success; other processes are refused.
        return [
            _argument(0),
            (_JUMP_EQUAL, 2, 0, 0),
            (_JUMP_EQUAL, 1, 0, pid),
            _return(refuse),
            _argument(2),
            (_JUMP_EQUAL, 1, 0, 0),
            _return(_errno(0)),
            _argument(2, high=True),
            (_JUMP_EQUAL, 1, 0, 0),
            _return(_errno(0)),
            _return(_ALLOW),
        ]
    if name in ("readlink", "readlinkat"):
        # "Not a symbolic link": realpath() continues, and no link tells where anything is.
        return [_return(_errno(errno.EINVAL))]
    if name == "fcntl":
        return _one_of(1, _FCNTL_ALLOWED, refuse)
    if name == "ioctl":
        return _one_of(1, _IOCTL_ALLOWED, _errno(errno.ENOTTY))
    if name == "prctl":
        return _one_of(0, _PRCTL_ALLOWED, _errno(errno.EINVAL))
    raise ValueError(f"no rule for {name}")


def assemble(architecture: Architecture, pid: int, *, files: bool) -> list[Instruction]:
    """The filter's instructions.

    Args:
        architecture: whose numbers to use.
        pid: the process that will install it; it may signal itself only.
        files: allow files to be opened by path. Only where Landlock decides which.
    """
    bodies = {number: [_return(_ALLOW)] for number in architecture.allowed.values()}
    if files:
        bodies |= {number: [_return(_ALLOW)] for number in architecture.files.values()}
    bodies |= {number: _checked(name, pid) for name, number in architecture.checked.items()}
    return [
        _load(_ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture.audit),
        _return(_KILL_PROCESS),
        _load(_NUMBER),
        *_search(_ranges(bodies, architecture.x32)),
    ]


def _ranges(bodies: dict[int, list[Instruction]], x32: int) -> list[tuple[int, list[Instruction]]]:
    """First system call of every range of calls that are treated alike, and how; in order, from 0."""
    edges = {0, _YOUNG, *bodies, *(number + 1 for number in bodies)}
    if x32:
        edges.add(x32)
    ranges: list[tuple[int, list[Instruction]]] = []
    for number in sorted(edges):
        if x32 and number >= x32:
            body = [_return(_KILL_PROCESS)]
        else:
            body = bodies.get(number) or [_return(_errno(errno.ENOSYS if number >= _YOUNG else errno.EPERM))]
        if not ranges or ranges[-1][1] != body:
            ranges.append((number, body))
    return ranges


def _search(ranges: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """Treats the call whose number is in the accumulator as its range demands; every body returns on every path."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below = _search(ranges[:middle])
    return [
        (_JUMP_ABOVE_OR_EQUAL, 0, 1, ranges[middle][0]),
        (_JUMP, 0, 0, len(below)),
        *below,
        *_search(ranges[middle:]),
    ]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Filter:
    """The filter of processes yet to be forked, ready but for their own ids: a child has better things to assemble."""

    def __init__(self, architecture: Architecture, *, files: bool) -> None:
        packed = b"".join(_INSTRUCTION.pack(*part) for part in assemble(architecture, _UNKNOWN_PID, files=files))
        self._buffer = ctypes.create_string_buffer(packed, len(packed))
        self._description = _Program(len(packed) // _INSTRUCTION.size, ctypes.addressof(self._buffer))
        self._address = ctypes.addressof(self._description)
        self._own_id = [found.start() for found in re.finditer(re.escape(_PID_FIELD.pack(_UNKNOWN_PID)), packed)]

    def install(self, libc: ctypes.CDLL, pid: int) -> None:
        """Put the calling thread of process `pid`, and all it starts, under the filter. Needs no_new_privs.

        Raises:
            OSError: the kernel refused it.
        """
        for offset in self._own_id:
            _PID_FIELD.pack_into(self._buffer, offset, pid)
        if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_void_p(self._address), 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"seccomp: {os.strerror(number)}")
