"""What a locked-down child does: runs the model's program, and says what came out of it.

A job is one JSON object in a sealed memory file that only the child reads:

    {"kind": "stdio", "source" or "sources"}             the program talks to its stdin and stdout
    {"kind": "function", "sources", "entry", "args"}     emits {"value": …} of one call
    {"kind": "serve", "sources", "entry"}                answers calls, one line in, one line out
    {"kind": "test", "setup", "source", "entry"}         runs trusted tests against a proxy that makes such calls

Of `sources` and `setup`, lists of alternatives, the first that compiles is run.

The report that ends every job (`{"end": …}`) is a claim of the process that ran the program: it explains failures and
never makes a success. Success is decided outside, from values.
"""

from __future__ import annotations

import builtins
import site
import sys
import threading
import traceback
import types
from typing import Any

from sandbox.jail import conversation, program, streams, values
from sandbox.jail.program import JOB_FD, RESULT_FD, compiled, entry, report

_MAX_MESSAGE = 300
# The whole stack of a thread counts as memory. Programs ask for half a gigabyte to recurse deeply, which has cost no
# stack since Python 3.11.
_MAX_THREAD_STACK = 128 * 1024 * 1024


def prepare() -> None:
    """Make the interpreter what programs expect of one that was started the usual way; once, before any fork."""
    site.setquit()
    program.prepare()
    # Time is limited in other ways.
    sys.set_int_max_str_digits(0)
    whole = threading.stack_size
    threading.stack_size = lambda size=0: whole(min(size, _MAX_THREAD_STACK))


def run(job: dict[str, Any]) -> int:
    """Do one job; the exit status of the process."""
    streams.fresh()
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __file__="program.py")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    try:
        code = _KINDS[job["kind"]](job, module.__dict__)
        return streams.finish(code, module.__dict__)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            sys.stderr.write(error.code + "\n")
        report({"end": {"exit": code}})
        return streams.finish(code & 0xFF, module.__dict__)
    except BaseException as error:  # noqa: BLE001 - whatever the program raises ends it, and is reported
        return streams.finish(_failed(error), module.__dict__)


def _failed(error: BaseException) -> int:
    name = type(error).__name__
    message = ""
    if isinstance(error, MemoryError):
        # Room for the report: what the failing frames hold is not needed any more.
        error.__traceback__ = None
    else:
        traceback.print_exception(error, limit=20)
        message = str(error)[:_MAX_MESSAGE]
    report({"end": {"error": name, "message": message}})
    return 1


def _stdio(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    code, _ = compiled(job.get("sources") or [job["source"]], "program.py")
    exec(code, namespace)
    report({"end": {"exit": 0}})
    return 0


def _function(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    call = entry(job, namespace)
    result = call(*values.decode(job["args"]))
    report({"value": values.encode(result)})
    return 0


_KINDS = {"stdio": _stdio, "function": _function, "serve": conversation.serve, "test": conversation.test}

__all__ = ["JOB_FD", "RESULT_FD", "prepare", "run"]
