"""Locks a forked child down before any model-written code runs in it: limits, user id, Landlock, seccomp.

Order matters and is the reason for this module: the user id can only be changed before capabilities are gone, the
parent-death signal is cleared by a change of the user id, and Landlock and seccomp need no_new_privs. The layers that
children inherit are applied once, in the fork server (`apply_inherited`); the rest, which differ between children or
would keep the fork server from its work, each child applies itself (`enter`).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import struct
import sys
from dataclasses import dataclass, replace

from sandbox.jail import landlock, seccomp, syscalls

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 1, 4, 8, 38
_CAP_SETUID = 7
_CAPABILITY_VERSION_3 = 0x20080522

STACK_BYTES = 64 * 1024 * 1024
OPEN_FILES = 64
# Of a uid that only this slot uses; without one, on top of what the user runs already.
THREADS = 64
SHARED_UID_THREADS = 512
# Processes beyond its children's limit that a fork server may start, lest a child full of threads keep it from forking.
_SPARE_PROCESSES = 8

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class IsolationLayers:
    """The isolation layers that a fork server prepares once and every child is under.

    Attributes:
        landlock: ruleset descriptor, or None where the kernel has no Landlock: then no file can be opened at all.
        uid: user (and group) a child becomes, or None to keep the fork server's.
        keep_file_access: the interpreter lies in a directory that only the fork server's user may enter, so children
            keep its file-system uid (Landlock still decides what they may read).
        threads: RLIMIT_NPROC of a child.
        memory_ceiling, cpu_ceiling: hard limits of the fork server, bytes and seconds, which no child's may exceed.
        base_bytes: address space of the fork server itself, which children inherit.
        scratch_bytes: RLIMIT_FSIZE of a child: the size of the directory it may write to, or 0.
        enforce: False only with `unsafe: true`: limits and nothing else.
        filter: None if nothing is enforced.
    """

    landlock: int | None
    uid: int | None
    keep_file_access: bool
    threads: int
    memory_ceiling: int
    cpu_ceiling: int
    base_bytes: int
    scratch_bytes: int
    enforce: bool
    filter: seccomp.Filter | None


def prepare(readable: list[str], uid: int | None, *, enforce: bool, scratch_bytes: int = 0) -> IsolationLayers:
    """Prepare the isolation layers of this fork server's children.

    Args:
        readable: paths they may read.
        uid: user they become, if this process may do that.
        enforce: all layers, not only limits.
        scratch_bytes: size of the directory that they may write to; 0: there is none.

    Raises:
        OSError: there is neither a system-call table for this architecture nor permission to go without isolation.
    """
    architecture = syscalls.native()
    if enforce and architecture is None:
        raise OSError(f"no system-call table for {os.uname().machine}")
    if architecture is not None and scratch_bytes:
        architecture = replace(architecture, files={**architecture.files, **architecture.scratch})
    rules = [(path, landlock.READ_FILE | landlock.READ_DIRECTORY) for path in readable]
    rules += [(path, landlock.READ_DIRECTORY) for path in sys.path if path]
    rules += [("/dev/null", landlock.READ_FILE | landlock.WRITE_FILE), ("/dev/urandom", landlock.READ_FILE)]
    rules += [("/dev/zero", landlock.READ_FILE)]
    with_landlock = enforce and landlock.abi(libc) > 0
    if uid is not None and not _may_become(uid):
        uid = None
    return IsolationLayers(
        landlock=landlock.ruleset(libc, rules) if with_landlock else None,
        uid=uid,
        keep_file_access=uid is not None and not all(_world_readable(path) for path in (os.__file__, *sys.path)),
        threads=min(
            THREADS if uid is not None else _threads_of_user() + SHARED_UID_THREADS, _ceiling(resource.RLIMIT_NPROC)
        ),
        memory_ceiling=_ceiling(resource.RLIMIT_AS),
        cpu_ceiling=_ceiling(resource.RLIMIT_CPU),
        base_bytes=_address_space(),
        scratch_bytes=scratch_bytes,
        enforce=enforce,
        filter=seccomp.Filter(architecture, files=with_landlock) if enforce and architecture else None,
    )


def hide() -> None:
    """Make this process unreadable to others of its user: no ptrace, no /proc/PID/mem, no core file."""
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def apply_inherited(layers: IsolationLayers) -> None:
    """Apply what children inherit: limits, user id, no capabilities, no new privileges. Nothing of it can be undone.

    Raises:
        OSError: a layer could not be applied; the caller must end the process.
    """
    for name, value in (
        (resource.RLIMIT_STACK, STACK_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, layers.threads + _SPARE_PROCESSES),
        (resource.RLIMIT_FSIZE, layers.scratch_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        value = min(value, _ceiling(name))
        resource.setrlimit(name, (value, value))
    if layers.uid is not None:
        _become(layers.uid, layers.keep_file_access)
    if layers.enforce:
        _drop_capabilities(0)
        _must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def enter(layers: IsolationLayers, parent: int | None, memory_bytes: int, cpu_seconds: int | None) -> None:
    """Lock the calling process down for good. It, or the process it was forked from, has called `apply_inherited`.

    Args:
        layers: from `prepare`.
        parent: process whose death ends this one; None where something else sees to that.
        memory_bytes: address space beyond `layers.base_bytes`.
        cpu_seconds: CPU limit, or None for a process that serves many requests.

    Raises:
        OSError: a layer could not be applied; the caller must end the process.
    """
    # Soft equals hard everywhere but for CPU time, so that nothing can be raised back. The soft CPU limit sends
    # SIGXCPU, which a program may ignore; the hard one, a second later, ends it.
    if cpu_seconds is not None:
        hard = min(cpu_seconds + 1, layers.cpu_ceiling)
        resource.setrlimit(resource.RLIMIT_CPU, (min(cpu_seconds, hard), hard))
    memory = min(layers.base_bytes + memory_bytes, layers.memory_ceiling)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_NPROC, (layers.threads, layers.threads))
    if parent is not None:
        _must(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")
        if os.getppid() != parent:
            raise OSError("the fork server is gone")
    if layers.landlock is not None:
        landlock.restrict(libc, layers.landlock)
        os.close(layers.landlock)
    if layers.filter is not None:
        layers.filter.install(libc, os.getpid())


def _ceiling(name: int) -> int:
    """The hard limit that this process is under already."""
    hard = resource.getrlimit(name)[1]
    return 1 << 62 if hard == resource.RLIM_INFINITY else hard


def _become(uid: int, keep_file_access: bool) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    if keep_file_access:
        file_uid = os.geteuid()
        _must(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "PR_SET_KEEPCAPS")
        os.setresuid(uid, uid, uid)
        _drop_capabilities(1 << _CAP_SETUID)
        libc.setfsuid(file_uid)
        if libc.setfsuid(-1) != file_uid:
            raise OSError("setfsuid was refused")
        _drop_capabilities(0)
    else:
        os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid):
        raise OSError("setresuid had no effect")


def _drop_capabilities(keep: int) -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", keep & 0xFFFFFFFF, keep & 0xFFFFFFFF, 0, keep >> 32, keep >> 32, 0)
    _must(libc.capset(header, data), "capset")


def _must(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _may_become(uid: int) -> bool:
    """Whether this is root with CAP_SETUID and CAP_SETGID and `uid` exists here; containers may lack any of these."""
    if os.geteuid() != 0:
        return False
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs start-up time
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    with open("/proc/self/uid_map", encoding="ascii") as file:  # noqa: PTH123
        ranges = [tuple(map(int, line.split())) for line in file]
    return effective & 0b11000000 == 0b11000000 and any(low <= uid < low + count for low, _, count in ranges)


def _world_readable(path: str) -> bool:
    while len(path) > 1:
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116 - pathlib costs start-up time
        except OSError:
            return True
        if not mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH):
            return False
        path = os.path.dirname(path)  # noqa: PTH120 - pathlib costs start-up time
    return True


def _threads_of_user() -> int:
    """Threads that count against RLIMIT_NPROC of this process's user."""
    uid, total = os.getuid(), 0
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs start-up time
        if not name.isdigit():
            continue
        try:
            if os.stat(f"/proc/{name}").st_uid == uid:  # noqa: PTH116
                total += len(os.listdir(f"/proc/{name}/task"))  # noqa: PTH208
        except OSError:
            continue
    return total


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs start-up time
        return int(file.read().split()[0]) * resource.getpagesize()
