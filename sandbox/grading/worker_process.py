"""The processes that run one isolated verifier: a fork server that imports what it needs, and workers forked from it.

Started by `sandbox.grading.fork_server` with its settings as an argument. A worker takes one request and gives one
reply, for ever. It never runs model-written programs, only parsers of model-written text, which may nevertheless
evaluate it: hence limits, Landlock, seccomp and a deadline that is enforced from outside. The fork server never sees a
request.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import site
import socket
import sys
import time
from typing import Any, NoReturn

import sandbox.verifiers  # noqa: F401 - registers the built-in verifiers
from sandbox.errors import BadReferenceError
from sandbox.grading import frames
from sandbox.jail import lockdown
from sandbox.registry import lookup
from sandbox.verdict import Grade, Status, Submission, as_grade

# A worker whose pool was killed in mid-check ends itself this long after the deadline of the check.
ORPHAN_SECONDS = 1.0
MAX_PACKET = 4096


def main(settings_json: str) -> NoReturn:
    """Fork a worker for each request of the pool, until it closes the inherited SOCK_SEQPACKET socket.

    The settings: `{"fd", "modules", "memory_bytes", "check_seconds", "uid", "enforce"}`. Messages, one packet each:

        → {"fork": true} + the worker's end of its connection      ← {"pid": n} + pidfd
        → {"reap": pid}                                            ← {"status": wait status}
    """
    settings = json.loads(settings_json)
    # Ctrl-C goes to the whole foreground process group; the pool decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The default action of SIGALRM ends the process even while C code holds the interpreter lock.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    control = socket.socket(fileno=settings["fd"])
    try:
        for module in settings["modules"]:
            importlib.import_module(module)
        layers = _layers(settings)
    except Exception as error:  # noqa: BLE001 - whatever keeps a worker from starting is reported to the pool
        control.send(json.dumps({"failure": f"{type(error).__name__}: {error}"[:1000]}).encode())
        sys.exit(1)
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": os.getpid()}).encode())
    while True:
        packet, fds, _, _ = socket.recv_fds(control, MAX_PACKET, 1)
        if not packet:
            # The workers' parent-death signal ends them with us.
            os._exit(0)
        request = json.loads(packet)
        if "fork" in request:
            _fork(control, layers, settings, fds[0])
        else:
            control.send(json.dumps({"status": os.waitpid(request["reap"], 0)[1]}).encode())


def _fork(control: socket.socket, layers: lockdown.IsolationLayers, settings: dict[str, Any], fd: int) -> None:
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(fd)
        control.send(json.dumps({"failure": f"fork: {error}"}).encode())
        return
    if pid == 0:
        try:
            control.close()
            _serve(layers, settings, parent, fd)
        finally:
            os._exit(1)
    os.close(fd)
    handle = os.pidfd_open(pid)
    socket.send_fds(control, [json.dumps({"pid": pid}).encode()], [handle])
    os.close(handle)


def _serve(layers: lockdown.IsolationLayers, settings: dict[str, Any], parent: int, fd: int) -> NoReturn:
    """Lock this process down, then answer requests until the pool closes the connection."""
    room = max(settings["memory_bytes"] - layers.base_bytes, settings["memory_bytes"] // 4)
    lockdown.enter(layers, parent, room, None)
    while (request := frames.read(fd)) is not None:
        signal.setitimer(signal.ITIMER_REAL, settings["check_seconds"] + ORPHAN_SECONDS)
        reply = _check(request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        frames.write(fd, frames.encode(reply))
    os._exit(0)


def _layers(settings: dict[str, Any]) -> lockdown.IsolationLayers:
    packages = [*site.getsitepackages(), *sys.path, sys.prefix, sys.base_prefix, "/usr/lib", "/lib", "/etc/ld.so.cache"]
    layers = lockdown.prepare([path for path in packages if path], settings["uid"], enforce=settings["enforce"])
    lockdown.apply_inherited(layers)
    lockdown.hide()
    return layers


def _check(request: dict[str, Any]) -> dict[str, Any]:
    submission = Submission(request["verifier"], request["response"], request["reference"], request["prompt"])
    started = time.perf_counter()
    try:
        grade = as_grade(lookup(submission.verifier).function(submission))
    except BadReferenceError as error:
        return {"failure": str(error)}
    except MemoryError:
        grade = Grade(Status.MEMORY, detail="out of memory")
    except RecursionError:
        grade = Grade(Status.UNPARSEABLE, detail="nested too deeply")
    except Exception as error:  # noqa: BLE001 - parsers raise anything on model text; it is an unparseable answer
        grade = Grade(Status.UNPARSEABLE, detail=f"{type(error).__name__}: {error}"[:200])
    return {
        "status": grade.status,
        "accuracy": grade.accuracy,
        "detail": grade.detail,
        "parts": dict(grade.parts),
        "seconds": time.perf_counter() - started,
    }
