"""What a locked-down child does: runs the model's program and reports its output.

A job is one JSON object in a sealed memory file that only the child reads:

    {"kind": "stdio", "source" or "sources"}             the program talks to its stdin and stdout; with `imports_files`
                                                         it may import from the directory that it starts in
    {"kind": "function", "sources", "entry", "args"}     emits {"value": …} of one call
    {"kind": "serve", "sources", "entry"}                answers requests, one line in, one line out
    {"kind": "test", "setup", "source", "entry"}         runs trusted tests that make such requests

Of `sources` and `setup`, lists of alternatives, the first that compiles is run.

The report of a job that fails (`{"end": …}`) is a claim of the process that ran the program: it explains failures and
never makes a success. Success is decided outside, from values.

Every page that a child writes to is copied, and the copies are most of what a short run costs. So the fork server makes
streams and `__main__` once and warms up, so that caches are filled and code is specialised before anything is forked.
"""

from __future__ import annotations

import builtins
import json
import os
import site
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from sandbox.jail import emulation, program, streams, tracebacks, values
from sandbox.jail.program import JOB_FD, RESULT_FD, compiled, entry, report

_MAX_MESSAGE = 300
# The whole stack of a thread counts as memory. Programs ask for half a gigabyte to recurse deeply, which has cost no
# stack since Python 3.11.
_MAX_THREAD_STACK = 128 * 1024 * 1024

_DECODER = json.JSONDecoder()
_namespace: dict[str, Any] = {}


def prepare(*, tests: bool) -> None:
    """Make the interpreter what programs expect of one that was started the usual way; once, before any fork.

    Args:
        tests: do the jobs of tests as well, whose code would be pages to copy for all others.
    """
    if tests:
        from sandbox.jail import answering, testing

        _KINDS.update(serve=answering.serve, test=testing.test)
    site.setquit()
    program.prepare()
    emulation.prepare()
    # Time is limited in other ways.
    sys.set_int_max_str_digits(0)
    whole = threading.stack_size
    threading.stack_size = lambda size=0: whole(min(size, _MAX_THREAD_STACK))


def reset() -> None:
    """Give this process, and so the children it forks, what a program finds: streams, arguments, an empty `__main__`.

    The streams are made while their descriptors are what they will be in a child, a file to read and pipes to write,
    because streams remember whether theirs can seek. Afterwards the descriptors are /dev/null.
    """
    null, regular, (reader, writer) = os.open(os.devnull, os.O_RDWR), os.memfd_create("stdin"), os.pipe()
    for fd, like in enumerate((regular, writer, writer)):
        os.dup2(like, fd)
    streams.fresh()
    for fd in range(3):
        os.dup2(null, fd)
    for fd in (null, regular, reader, writer):
        os.close(fd)
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __file__="program.py")
    sys.modules["__main__"] = module
    sys.modules.pop("program", None)
    sys.argv = ["program.py"]
    global _namespace
    _namespace = module.__dict__


def warm_up(*, tests: bool) -> None:
    """Do what children do, often enough for the interpreter to specialise the code."""
    source = (
        "import sys\ndef f(a, b=1, *c, **d):\n    return [x for x in {**d}] or f'{a!r}'\nclass C:\n    pass\nf(1)\n"
    )
    args = values.encode([1, 2.5, "x", (None,), {"k": {3}}])
    for _ in range(16):
        reset()
        job = decode(json.dumps({"kind": "stdio", "source": source + "sys.stdin.readline()\nprint(1)\n"}).encode())
        _perform(job)
        _perform({"kind": "function", "sources": [source], "entry": "f", "args": args})
        sys.stdout.flush()
    if tests:
        from sandbox.jail import testing

        testing.warm_up()


def decode(body: bytes) -> dict[str, Any]:
    """A job."""
    job: dict[str, Any] = _DECODER.raw_decode(body.decode("ascii"))[0]
    return job


def run(job: dict[str, Any]) -> int:
    """Do one job; the exit status of the process."""
    return streams.finish(_perform(job), _namespace)


def _perform(job: dict[str, Any]) -> int:
    try:
        return _KINDS[str(job["kind"])](job, _namespace)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            sys.stderr.write(error.code + "\n")
        return code & 0xFF
    except BaseException as error:  # noqa: BLE001 - whatever the program raises ends it, and is reported
        return _failed(error, job)


def _failed(error: BaseException, job: dict[str, Any]) -> int:
    name = type(error).__name__
    message = ""
    if isinstance(error, MemoryError):
        # Room for the report: what the failing frames hold is not needed any more.
        error.__traceback__ = None
    else:
        tracebacks.show(error, (job.get("sources") or [job.get("source", "")])[-1])
        message = str(error)[:_MAX_MESSAGE]
    report({"end": {"error": name, "message": message}})
    return 1


def _stdio(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    code, _ = compiled(job.get("sources") or [job["source"]], "program.py")
    if job.get("imports_files"):
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - pathlib costs start-up time
        sys.dont_write_bytecode = True
    exec(code, namespace)
    return 0


def _function(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    call = entry(job, namespace)
    result = call(*values.decode(job["args"]))
    report({"value": values.encode(result)})
    return 0


_KINDS: dict[str, Callable[[dict[str, Any], dict[str, Any]], int]] = {"stdio": _stdio, "function": _function}

__all__ = ["JOB_FD", "RESULT_FD", "decode", "prepare", "reset", "run", "warm_up"]
