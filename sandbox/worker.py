"""The process that runs isolated verifiers: one request, one reply, for ever.

Started by `sandbox.processes` with its limits as arguments. It never sees
model-written code, only model-written text, which third-party parsers may nevertheless evaluate: hence its limits, its
lockdown and a deadline that is enforced from outside. It imports what its verifiers need before it locks itself down.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import socket
import time
from typing import Any

from sandbox import frames
from sandbox.errors import BadReferenceError
from sandbox.registry import lookup
from sandbox.verdict import Grade, Status, Submission

# A worker whose pool was killed in mid-check ends itself this long after the deadline of the check.
ORPHAN_SECONDS = 1.0


def main(connection_fd: int, memory_bytes: int) -> None:
    """Serve requests on the inherited socket until the pool closes it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # Ctrl-C goes to the whole foreground process group; the pool decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=connection_fd)
    frames.send(connection, frames.encode({"ready": os.getpid()}), None)
    while True:
        request = frames.receive(connection, None)
        if request is None:
            return
        frames.send(connection, frames.encode(_answer(request)), None)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    # The default action of SIGALRM ends the process even while C code holds the interpreter lock.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, float(request["seconds"]) + ORPHAN_SECONDS)
    try:
        return _import(request) if "import" in request else _check(request)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _import(request: dict[str, Any]) -> dict[str, Any]:
    try:
        for module in request["import"]:
            importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever an import raises is reported to the pool, which raises it
        return {"failure": f"cannot import {request['import']}: {type(error).__name__}: {error}"}
    return {"imported": True}


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
