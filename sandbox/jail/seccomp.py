"""Builds and installs the seccomp filter: a classic BPF program, assembled by hand so that nothing has to be installed.

The filter is an allowlist. Jumps never leave the block of one system call, so no offset comes near BPF's limit of 255.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from sandbox.jail.syscalls import Architecture

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE_OR_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
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

# Stands for the process's own id in a template; no process id and no other constant of the filter is that large.
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


def _call(number: int, body: list[Instruction]) -> list[Instruction]:
    """`body` for one system call; it must return on every path. The accumulator holds the call's number before it."""
    return [(_JUMP_EQUAL, 0, len(body), number), *body]


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
        # Pretended success: programs that ask for more stack go on, and no limit changes.
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
        # "Not a symbolic link": realpath() goes on, and no link tells where anything is.
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
    program = [
        _load(_ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture.audit),
        _return(_KILL_PROCESS),
        _load(_NUMBER),
    ]
    if architecture.x32:
        program += [(_JUMP_ABOVE_OR_EQUAL, 0, 1, architecture.x32), _return(_KILL_PROCESS)]
    allowed = {**architecture.allowed, **(architecture.files if files else {})}
    for number in allowed.values():
        program += _call(number, [_return(_ALLOW)])
    for name, number in architecture.checked.items():
        program += _call(number, _checked(name, pid))
    program += [(_JUMP_ABOVE_OR_EQUAL, 0, 1, _YOUNG), _return(_errno(errno.ENOSYS)), _return(_errno(errno.EPERM))]
    return program


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def template(architecture: Architecture, *, files: bool) -> bytes:
    """The packed filter for a process yet to be forked: assembling it costs a fifth of a millisecond, once."""
    return b"".join(_INSTRUCTION.pack(*part) for part in assemble(architecture, _UNKNOWN_PID, files=files))


def install(libc: ctypes.CDLL, packed: bytes, pid: int) -> None:
    """Put the calling thread, and all it starts, under a filter made by `template`. Needs no_new_privs.

    Raises:
        OSError: the kernel refused it.
    """
    packed = packed.replace(_PID_FIELD.pack(_UNKNOWN_PID), _PID_FIELD.pack(pid))
    buffer = ctypes.create_string_buffer(packed, len(packed))
    description = _Program(len(packed) // _INSTRUCTION.size, ctypes.cast(buffer, ctypes.c_void_p).value)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(description), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
