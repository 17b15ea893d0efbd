"""What a locked-down child does: runs the model's program, and says what came out of it.

A job is one JSON object in a sealed memory file that only the child reads:

    {"kind": "stdio", "source"}                          the program talks to its stdin and stdout
    {"kind": "function", "sources", "entry", "args"}     emits {"value": …} of one call
    {"kind": "serve", "sources", "entry"}                answers calls, one line in, one line out
    {"kind": "test", "setup", "source", "entry"}         runs trusted tests against a proxy that makes such calls

Of `sources` and `setup`, lists of alternatives, the first that compiles is run.

The report of a job that fails (`{"end": …}`) is a claim of the process that ran the program: it explains failures and
never makes a success. Success is decided outside, from values.

Every page that a child writes to is copied, and the copies are most of what a short run costs. So the zygote sets the
stage once, and rehearses, so that caches are filled and code is specialised before anything is forked.
"""

from __future__ import annotations

import atexit
import builtins
import io
import json
import os
import sys
import threading
import traceback
import types
from typing import Any

from sandbox.jail import values
from sandbox.jail.values import ValueEncodingError

JOB_FD, RESULT_FD = 3, 4
MAX_LINE = 16 * 1024 * 1024
_MAX_MESSAGE = 300

_DECODER, _ENCODER = json.JSONDecoder(), json.JSONEncoder(default=str)


class CandidateError(Exception):
    """The tested function raised something that is not a builtin exception."""


class _UnsupportedError(BaseException):
    """The tests pass the function a value that cannot cross. Not an `Exception`, lest the tests catch it."""


_namespace: dict[str, Any] = {}


def set_stage() -> None:
    """Give this process, and so the children it forks, what a program finds: streams, arguments, an empty `__main__`.

    The streams are made while their descriptors are what they will be in a child, a file to read and pipes to write,
    because streams remember whether theirs can seek. Afterwards the descriptors are /dev/null.
    """
    null, regular, (reader, writer) = os.open(os.devnull, os.O_RDWR), os.memfd_create("stdin"), os.pipe()
    for fd, like in enumerate((regular, writer, writer)):
        os.dup2(like, fd)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(_reader(), encoding="utf-8")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _writer(1, "strict")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _writer(2, "backslashreplace")  # type: ignore[misc]
    for fd in range(3):
        os.dup2(null, fd)
    for fd in (null, regular, reader, writer):
        os.close(fd)
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.modules.pop("program", None)
    sys.argv = ["program.py"]
    global _namespace
    _namespace = module.__dict__


def rehearse() -> None:
    """Do what children do, often enough for the interpreter to specialise the code."""
    source = (
        "import sys\ndef f(a, b=1, *c, **d):\n    return [x for x in {**d}] or f'{a!r}'\nclass C:\n    pass\nf(1)\n"
    )
    args = values.encode([1, 2.5, "x", (None,), {"k": {3}}])
    for _ in range(16):
        set_stage()
        job = decode(json.dumps({"kind": "stdio", "source": source + "sys.stdin.readline()\nprint(1)\n"}).encode())
        _perform(job)
        _perform({"kind": "function", "sources": [source], "entry": "f", "args": args})
        sys.stdout.flush()


def decode(body: bytes) -> dict[str, Any]:
    """A job."""
    job: dict[str, Any] = _DECODER.raw_decode(body.decode("ascii"))[0]
    return job


def run(job: dict[str, Any]) -> int:
    """Do one job; the exit status of the process."""
    return _flush(_perform(job))


def _perform(job: dict[str, Any]) -> int:
    try:
        return _KINDS[job["kind"]](job, _namespace)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            sys.stderr.write(error.code + "\n")
        return code & 0xFF
    except BaseException as error:  # noqa: BLE001 - whatever the program raises ends it, and is reported
        return _failed(error)


def _failed(error: BaseException) -> int:
    name = type(error).__name__
    message = ""
    if isinstance(error, MemoryError):
        # Room for the report: what the failing frames hold is not needed any more.
        error.__traceback__ = None
    else:
        traceback.print_exception(error, limit=20)
        message = str(error)[:_MAX_MESSAGE]
    _report({"end": {"error": name, "message": message}})
    return 1


def _reader() -> io.BufferedReader:
    return io.BufferedReader(io.FileIO(0, "r", closefd=False))


def _writer(fd: int, errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(fd, "w", closefd=False)), encoding="utf-8", errors=errors)


def _flush(code: int) -> int:
    """What the interpreter does at its end, without the time it takes to dismantle itself."""
    try:
        if threading.active_count() > 1:
            threading._shutdown()  # type: ignore[attr-defined]  # waits for non-daemon threads, as an exit would
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - a program whose output cannot be written has failed
        return code or 120
    return code


def _report(message: dict[str, Any]) -> None:
    line = _ENCODER.encode(message).encode("utf-8", "replace") + b"\n"
    view = memoryview(line)
    while view:
        view = view[os.write(RESULT_FD, view) :]


def _stdio(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    exec(compile(job["source"], "program.py", "exec", dont_inherit=True), namespace)
    return 0


def _function(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    call = _entry(job, namespace)
    result = call(*values.decode(job["args"]))
    _report({"value": values.encode(result)})
    return 0


def _entry(job: dict[str, Any], namespace: dict[str, Any]) -> Any:
    """The function under test: a name, or LeetCode's `Solution().name`."""
    namespace["__name__"] = "program"
    sys.modules["program"] = sys.modules["__main__"]
    exec(_compiled(job["sources"], "program.py"), namespace)
    entry = job["entry"]
    if "." in entry:
        owner, _, name = entry.partition(".")
        return getattr(namespace[owner](), name)
    if entry not in namespace and isinstance(namespace.get("Solution"), type):
        return getattr(namespace["Solution"](), entry)
    return namespace[entry]


def _compiled(sources: list[str], name: str) -> types.CodeType:
    """The first source that compiles; the syntax error of the last if none does."""
    for source in sources[:-1]:
        try:
            return compile(source, name, "exec", dont_inherit=True)
        except SyntaxError:
            continue
    return compile(sources[-1], name, "exec", dont_inherit=True)


def _serve(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    requests = _reader()
    sys.stdin = io.StringIO()
    call = _entry(job, namespace)
    _report({"ready": True})
    while True:
        line = requests.readline(MAX_LINE)
        if not line:
            return 0
        args, keywords = values.decode(line)
        try:
            reply = {"value": values.encode(call(*args, **keywords))}
        except Exception as error:  # noqa: BLE001 - the tests may expect any exception
            reply = {"raised": type(error).__name__, "message": str(error)[:_MAX_MESSAGE]}
        _report(reply)


def _test(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    replies = _reader()

    def candidate(*args: Any, **keywords: Any) -> Any:
        try:
            call = values.encode((args, keywords))
        except ValueEncodingError as error:
            raise _UnsupportedError(str(error)) from None
        _report({"call": call})
        line = replies.readline(MAX_LINE)
        if not line:
            raise EOFError("the program under test has ended")
        return _result(json.loads(line))

    candidate.__name__ = candidate.__qualname__ = job["entry"]
    sys.stdin = io.StringIO()
    try:
        setup, tests = _compiled(job["setup"], "setup.py"), _compiled([job["source"]], "test.py")
    except SyntaxError as error:
        _report({"unusable": f"SyntaxError: {error}"})
        return 0
    try:
        exec(setup, namespace)
        namespace[job["entry"]] = namespace["candidate"] = candidate
        exec(tests, namespace)
        if callable(namespace.get("check")):
            namespace["check"](candidate)
    except _UnsupportedError as error:
        _report({"unusable": str(error)})
    except Exception as error:  # noqa: BLE001 - tests fail by any exception
        _report({"failed": type(error).__name__})
    else:
        _report({"passed": True})
    return 0


def _result(reply: dict[str, Any]) -> Any:
    """What a call returned or raised. Only exact builtin exceptions cross, and none that would end the tests."""
    if "value" in reply:
        return values.decode(reply["value"])
    kind = getattr(builtins, str(reply.get("raised")), None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(kind, StopIteration):
        raise CandidateError(reply.get("message", ""))
    try:
        error = kind(reply.get("message", ""))
    except TypeError:
        error = CandidateError(reply.get("message", ""))
    raise error


_KINDS = {"stdio": _stdio, "function": _function, "serve": _serve, "test": _test}

__all__ = ["JOB_FD", "MAX_LINE", "RESULT_FD", "ValueEncodingError", "decode", "rehearse", "run", "set_stage"]
