"""The zygote: a clean, warm interpreter that forks one locked-down child for each job.

It never sees a job. The pool hands it five descriptors (job, stdin, stdout, stderr, result) and limits; it forks, gives
the pool a pidfd of the child at once, and reaps the child when the pool says that it is gone. It is single-threaded, so
that the parent-death signal of its children fires when it dies, and it ends when the pool's end of the socket closes.

Messages, one packet each:

    → {"fork": {"memory": bytes, "cpu": seconds}} + descriptors     ← {"pid": n} + pidfd
    → {"reap": pid}                                                ← {"status": wait status, "cpu": s, "rss": bytes}
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
from typing import Any, NoReturn

from sandbox.jail import harness, lockdown, namespaces, values

MAX_PACKET = 4096
LOCKDOWN_FAILED = 125
# First line of every child's result: what follows may be the program's own words.
LOCKED = b'{"locked":true}\n'
_CONTROL_FD_FLOOR = 200
_M_ARENA_MAX = -8

# What programs import most; a child that finds them loaded starts milliseconds sooner.
WARM = (
    "__future__", "abc", "array", "ast", "bisect", "calendar", "cmath", "collections", "collections.abc", "contextlib",
    "copy", "csv", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "io",
    "inspect", "itertools", "json", "math", "numbers", "operator", "queue", "random", "re", "statistics", "string",
    "struct", "textwrap", "threading", "time", "traceback", "types", "typing", "unicodedata", "uuid",
)  # fmt: skip


def main(control_fd: int, configuration: str) -> None:
    """Serve the pool on an inherited SOCK_SEQPACKET socket until it closes."""
    settings = json.loads(configuration)
    control = _move_out_of_the_way(control_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in (*WARM, *settings["preload"]):
        importlib.import_module(module)
    # One arena for all threads: each of its own would reserve 64 MiB of a limited address space. Not every C library
    # knows this call.
    with contextlib.suppress(AttributeError):
        lockdown.libc.mallopt(_M_ARENA_MAX, 1)
    harness.prepare()
    _warm_up()
    readable = _readable(settings["preload"], settings["importable"])
    walls = lockdown.prepare(readable, settings["uid"], enforce=settings["enforce"])
    own = namespaces.separate(lockdown.libc, [*readable, *filter(None, sys.path)]) if settings["enforce"] else ""
    lockdown.hide()
    _OWN_MODULES.extend(name for name in sys.modules if name.partition(".")[0] == "sandbox")
    gc.collect()
    gc.freeze()
    ready = {"ready": os.getpid(), "landlock": walls.landlock is not None, "own": own, "uid": walls.uid}
    control.send(json.dumps(ready).encode())
    while True:
        packet, fds, _, _ = socket.recv_fds(control, MAX_PACKET, 8)
        if not packet:
            # The children's parent-death signal ends them with us.
            os._exit(0)
        request = json.loads(packet)
        if "fork" in request:
            _fork(control, walls, request["fork"], fds)
        else:
            control.send(json.dumps(_reap(request["reap"])).encode())


def _move_out_of_the_way(control_fd: int) -> socket.socket:
    """Free the descriptors that children use, so that duplicating onto them never hits one of ours."""
    high = fcntl.fcntl(control_fd, fcntl.F_DUPFD_CLOEXEC, _CONTROL_FD_FLOOR)
    os.close(control_fd)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(harness.RESULT_FD + 1):
        if fd != null:
            os.dup2(null, fd)
    return socket.socket(fileno=high)


def _warm_up() -> None:
    """Run what every child runs once: the compiler's first use alone costs two milliseconds."""
    source = (
        "import sys\ndef f(a, b=1, *c, **d):\n    return [x for x in {**d}] or f'{a!r}'\nclass C:\n    pass\nf(1)\n"
    )
    exec(compile(source, "warm.py", "exec", dont_inherit=True), {"__name__": "warm"})
    values.decode(values.encode([1, 2.5, "x", (None,), {"k": {3}}]))


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
    return [*paths, "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"]


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


def _fork(control: socket.socket, walls: lockdown.Walls, limits: dict[str, Any], fds: list[int]) -> None:
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        for fd in fds:
            os.close(fd)
        control.send(json.dumps({"failure": f"fork: {error}"}).encode())
        return
    if pid == 0:
        _child(walls, parent, limits, fds)
    for fd in fds:
        os.close(fd)
    handle = os.pidfd_open(pid)
    socket.send_fds(control, [json.dumps({"pid": pid}).encode()], [handle])
    os.close(handle)


# Listed before forking: a walk over all modules in the child would touch, and so copy, a hundred pages.
_OWN_MODULES: list[str] = []


def _child(walls: lockdown.Walls, parent: int, limits: dict[str, Any], fds: list[int]) -> NoReturn:
    code = LOCKDOWN_FAILED
    try:
        _lock(walls, parent, limits, fds)
        job = _read_job()
        for name in _OWN_MODULES:
            del sys.modules[name]
        code = harness.run(job)
    finally:
        os._exit(code)


def _lock(walls: lockdown.Walls, parent: int, limits: dict[str, Any], fds: list[int]) -> None:
    """Lock this child down, and say so before the program can say anything."""
    try:
        for target, fd in enumerate(fds):
            os.dup2(fd, (harness.JOB_FD, 0, 1, 2, harness.RESULT_FD)[target])
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _close_others(walls.landlock)
        lockdown.enter(walls, parent, limits["memory"], limits["cpu"])
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


def _read_job() -> dict[str, Any]:
    size = os.fstat(harness.JOB_FD).st_size
    body = os.pread(harness.JOB_FD, size, 0)
    os.close(harness.JOB_FD)
    job: dict[str, Any] = json.loads(body)
    return job


def _reap(pid: int) -> dict[str, Any]:
    _, status, usage = os.wait4(pid, 0)
    return {"status": status, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}
