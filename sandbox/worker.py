"""The process that runs one isolated verifier: one request, one reply, for ever.

Started by `sandbox.answers` with its settings as an argument. It never runs model-written programs, only parsers of
model-written text, which may nevertheless evaluate it: hence limits, Landlock, seccomp and a deadline that is enforced
from outside. It imports what its verifier needs before it locks itself down.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import site
import socket
import sys
import time
from typing import Any

from sandbox import frames
from sandbox.errors import BadReferenceError
from sandbox.jail import lockdown
from sandbox.registry import lookup
from sandbox.verdict import Grade, Status, Submission

# A worker whose pool was killed in mid-check ends itself this long after the deadline of the check.
ORPHAN_SECONDS = 1.0


def main(settings_json: str) -> None:
    """Serve requests on the inherited socket until the pool closes it.

    The settings: `{"fd", "modules", "memory_bytes", "check_seconds", "uid", "enforce"}`.
    """
    settings = json.loads(settings_json)
    # Ctrl-C goes to the whole foreground process group; the pool decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The default action of SIGALRM ends the process even while C code holds the interpreter lock.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    connection = socket.socket(fileno=settings["fd"])
    try:
        for module in settings["modules"]:
            importlib.import_module(module)
        _lock(settings)
    except Exception as error:  # noqa: BLE001 - whatever keeps a worker from starting is reported to the pool
        frames.send(connection, frames.encode({"failure": f"{type(error).__name__}: {error}"}), None)
        return
    frames.write(settings["fd"], frames.encode({"ready": os.getpid()}))
    while (request := frames.read(settings["fd"])) is not None:
        signal.setitimer(signal.ITIMER_REAL, settings["check_seconds"] + ORPHAN_SECONDS)
        reply = _check(request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        frames.write(settings["fd"], frames.encode(reply))


def _lock(settings: dict[str, Any]) -> None:
    lockdown.hide()
    packages = [*site.getsitepackages(), *sys.path, sys.prefix, sys.base_prefix, "/usr/lib", "/lib", "/etc/ld.so.cache"]
    walls = lockdown.prepare([path for path in packages if path], settings["uid"], enforce=settings["enforce"])
    room = max(settings["memory_bytes"] - walls.base_bytes, settings["memory_bytes"] // 4)
    lockdown.settle(walls)
    lockdown.enter(walls, None, room, None)


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


def as_grade(result: Any) -> Grade:
    """A verifier's result as a grade.

    Raises:
        TypeError: it is neither a `Grade` nor a bool nor a number.
    """
    if isinstance(result, Grade):
        return result
    if isinstance(result, bool | int | float):
        return Grade.of(result)
    raise TypeError(f"a verifier returns a Grade, a bool or a number from 0 to 1, not {type(result).__name__}")
