"""The fork server: a clean, warm interpreter that forks one locked-down child for each job.

It never sees a job. The pool hands it five descriptors (stdin, stdout, stderr, job, result) and limits; it forks, gives
the pool a pidfd of the child at once, and reaps the child when the pool asks for it. It is single-threaded, so
that the parent-death signal of its children fires when it dies, and it ends when the pool's end of the socket closes.

Messages, one packet each (`REQUEST`, and `STARTED` or `ENDED` for the answer):

    → "fork", memory in bytes, CPU seconds + descriptors     ← process id + pidfd, or minus an error number
    → "reap", process id, 0                                  ← wait status, CPU seconds, largest resident size in bytes
"""

from __future__ import annotations

# Not `socket`, whose pages and libraries every child would copy.
import _socket
import contextlib
import ctypes
import fcntl
import gc
import importlib
import importlib.util
import json
import os
import random
import signal
import struct
import sys
import threading
from types import ModuleType
from typing import NoReturn

from sandbox.jail import harness, lockdown, memory, namespaces, scratch

MAX_PACKET = 4096
REQUEST, STARTED, ENDED = struct.Struct("=4sQQ"), struct.Struct("=i"), struct.Struct("=idQ")
LOCKDOWN_FAILED = 125
# First line of every child's result: what follows may be the program's own words.
LOCKED = b'{"locked":true}\n'
_CONTROL_FD_FLOOR = 200
_M_ARENA_MAX = -8
_FDS, _FD = struct.Struct("5i"), struct.Struct("i")
# Where the descriptors of a job are received: nothing else here is that low, and the lowest are taken first.
_PLACES = (0, 1, 2, harness.JOB_FD, harness.RESULT_FD)
# Out of programs' sight in `sys.modules`, but alive.
_OWN_MODULES: list[ModuleType] = []
# Keeps the interpreter lock during a call.
_libc = ctypes.PyDLL(None, use_errno=True)

# What programs import most; a child that finds them loaded starts milliseconds sooner.
WARM = (
    "__future__", "abc", "array", "ast", "bisect", "calendar", "cmath", "collections", "collections.abc", "contextlib",
    "copy", "csv", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "heapq", "io",
    "inspect", "itertools", "json", "math", "numbers", "operator", "queue", "random", "re", "statistics", "string",
    "struct", "textwrap", "threading", "time", "traceback", "types", "typing", "unicodedata",
)  # fmt: skip


def main(control_fd: int, configuration: str) -> NoReturn:
    """Serve the pool on an inherited SOCK_SEQPACKET socket until it closes."""
    settings = json.loads(configuration)
    os.environ.pop("LD_BIND_NOW", None)
    control = _move_out_of_the_way(control_fd)
    # The pool's Ctrl-C does not get here: this is a session of its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for module in (*WARM, *settings["preload"]):
        importlib.import_module(module)
    # One arena for all threads: each of its own would reserve 64 MiB of a limited address space. Not every C library
    # knows this call.
    with contextlib.suppress(AttributeError):
        lockdown.libc.mallopt(_M_ARENA_MAX, 1)
    harness.prepare(tests=settings["tests"])
    harness.warm_up(tests=settings["tests"])
    readable = _readable(settings["preload"], settings["importable"])
    source, size, tree = settings["source"], settings["scratch_bytes"], scratch.read(settings["source"])
    layers = lockdown.prepare(readable, settings["uid"], enforce=settings["enforce"], scratch_bytes=size)
    gc.collect()
    # While there is still a /proc.
    memory.settle(lockdown.libc)
    own = namespaces.separate(lockdown.libc, [*readable, *filter(None, sys.path)], size) if settings["enforce"] else ""
    if size and "root" not in own:
        # Nothing to write to, so nothing that writes is allowed.
        layers = lockdown.prepare(readable, settings["uid"], enforce=settings["enforce"])
    directory = None
    if source:
        directory = scratch.occupy(lockdown.libc, layers.landlock, source, tree, mounted="root" in own)
    del tree
    lockdown.apply_inherited(layers)
    lockdown.hide()
    harness.reset()
    for name in [name for name in sys.modules if name.partition(".")[0] == "sandbox"]:
        _OWN_MODULES.append(sys.modules.pop(name))
    # What it received would otherwise be duplicated onto the descriptors that children use.
    os.closerange(0, harness.RESULT_FD + 1)
    gc.collect()
    gc.freeze()
    if hasattr(_libc, "malloc_trim"):
        # Sorts the free memory of glibc: left to the first large allocation, every child would do it.
        _libc.malloc_trim(0)
    ready = {"ready": os.getpid(), "landlock": layers.landlock is not None, "own": own, "uid": layers.uid}
    own_directory = [] if directory is None else [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _FD.pack(directory))]
    control.sendmsg([json.dumps(ready).encode()], own_directory)
    if directory is not None:
        os.close(directory)
    _serve(control, layers)


def _serve(control: _socket.socket, layers: lockdown.IsolationLayers) -> NoReturn:
    """Fork and reap children as the pool asks for it, until it closes the socket."""
    while True:
        packet, ancillary, _, _ = control.recvmsg(REQUEST.size, _socket.CMSG_SPACE(_FDS.size))
        if not packet:
            # The children's parent-death signal ends them with us.
            os._exit(0)
        verb, first, second = REQUEST.unpack(packet)
        if verb == b"fork":
            if _FDS.unpack(ancillary[0][2]) != _PLACES:
                raise OSError("descriptors arrived out of their places")
            _fork(control, layers, first, second)
        else:
            _, status, usage = os.wait4(first, 0)
            control.send(ENDED.pack(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))


def _move_out_of_the_way(control_fd: int) -> _socket.socket:
    """Keep everything of ours off the descriptors that children use."""
    high = fcntl.fcntl(control_fd, fcntl.F_DUPFD_CLOEXEC, _CONTROL_FD_FLOOR)
    os.close(control_fd)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(harness.RESULT_FD + 1):
        if fd != null:
            os.dup2(null, fd)
    return _socket.socket(fileno=high)


def _readable(preload: list[str], importable: list[str]) -> list[str]:
    """Paths a child may read: the standard library without site-packages, packages it may import, shared libraries."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib costs start-up time
    paths = [os.path.join(library, name) for name in os.listdir(library) if not name.endswith("-packages")]  # noqa: PTH118, PTH208
    paths += [path for path in sys.path if path.endswith(".zip")]
    packages = _installed(importable)
    if preload:
        packages |= _package_paths(library)
    for path in packages:
        paths += [path, f"{path}.libs"]
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123
        objects = {line.split(None, 5)[5].strip() for line in maps if ".so" in line}
    paths += {os.path.dirname(path) for path in objects if not path.startswith(library)}  # noqa: PTH120
    return [*paths, "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/usr/lib/locale"]


def _installed(names: list[str]) -> set[str]:
    """Where these packages lie, those of them that are installed."""
    found: set[str] = set()
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is not None:
            found.update(spec.submodule_search_locations or filter(None, [spec.origin]))
    return found


def _package_paths(library: str) -> set[str]:
    """Where the preloaded packages, and what they imported, lie: their own modules may be imported later."""
    found: set[str] = set()
    for name, module in list(sys.modules.items()):
        if "." in name or name == "sandbox":
            continue
        file = getattr(module, "__file__", None)
        if file and (not file.startswith(library) or "-packages" in file):
            found.update(getattr(module, "__path__", [file]))
    return found


def _fork(control: _socket.socket, layers: lockdown.IsolationLayers, memory_bytes: int, cpu: int) -> None:
    parent = os.getpid()
    try:
        pid = os.fork() if threading.active_count() > 1 else _bare_fork()
    except OSError as error:
        os.closerange(0, len(_PLACES))
        control.send(STARTED.pack(-(error.errno or 1)))
        return
    if pid == 0:
        _child(layers, parent, memory_bytes, cpu)
    os.closerange(0, len(_PLACES))
    handle = os.pidfd_open(pid)
    control.sendmsg([STARTED.pack(pid)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _FD.pack(handle))])
    os.close(handle)


def _bare_fork() -> int:
    """The system's fork, without what `os.fork` does about other threads: there are none, and it copies 200 pages.

    Raises:
        OSError: no process could be made.
    """
    pid: int = _libc.fork()
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def _child(layers: lockdown.IsolationLayers, parent: int, memory_bytes: int, cpu: int) -> NoReturn:
    code = LOCKDOWN_FAILED
    try:
        _lock(layers, parent, memory_bytes, cpu)
        body = os.pread(harness.JOB_FD, os.lseek(harness.JOB_FD, 0, os.SEEK_END), 0)
        os.close(harness.JOB_FD)
        if b"random" in body:
            # What `os.fork` would do; of no use to programs that never name it.
            random.seed()
        code = harness.run(harness.decode(body))
    finally:
        os._exit(code)


def _lock(layers: lockdown.IsolationLayers, parent: int, memory_bytes: int, cpu: int) -> None:
    """Lock this child down, and report it before the program can write anything."""
    try:
        _close_others(layers.landlock)
        lockdown.enter(layers, parent, memory_bytes, cpu)
    except OSError as error:
        os.write(harness.RESULT_FD, json.dumps({"unlocked": str(error)}).encode() + b"\n")
        raise
    os.write(harness.RESULT_FD, LOCKED)


def _close_others(keep: int | None) -> None:
    first = harness.RESULT_FD + 1
    if keep is None:
        os.closerange(first, 1 << 16)
        return
    os.closerange(first, keep)
    os.closerange(keep + 1, 1 << 16)
