"""What a locked-down child does: runs the model's program, and says what came out of it.

A job is one JSON object in a sealed memory file that only the child reads:

    {"kind": "stdio", "source"}                          the program talks to its stdin and stdout
    {"kind": "function", "sources", "entry", "args"}     emits {"value": …} of one call
    {"kind": "serve", "sources", "entry"}                answers calls, one line in, one line out
    {"kind": "test", "setup", "source", "entry"}         runs trusted tests against a proxy that makes such calls

Of `sources` and `setup`, lists of alternatives, the first that compiles is run.

The report that ends every job (`{"end": …}`) is a claim of the process that ran the program: it explains failures and
never makes a success. Success is decided outside, from values.
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


class CandidateError(Exception):
    """The tested function raised something that is not a builtin exception."""


class _UnsupportedError(BaseException):
    """The tests pass the function a value that cannot cross. Not an `Exception`, lest the tests catch it."""


def run(job: dict[str, Any]) -> int:
    """Do one job; the exit status of the process."""
    _fresh_streams()
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    try:
        code = _KINDS[job["kind"]](job, module.__dict__)
        return _flush(code)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            sys.stderr.write(error.code + "\n")
        _report({"end": {"exit": code}})
        return _flush(code & 0xFF)
    except BaseException as error:  # noqa: BLE001 - whatever the program raises ends it, and is reported
        return _flush(_failed(error))


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


def _fresh_streams() -> None:
    """Streams as a new interpreter would have them, on the descriptors of this run."""
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), encoding="utf-8", errors="backslashreplace"
    )


def _flush(code: int) -> int:
    """What the interpreter does at its end, without the time it takes to dismantle itself."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for non-daemon threads, as an exit would
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - a program whose output cannot be written has failed
        return code or 120
    return code


def _report(message: dict[str, Any]) -> None:
    line = json.dumps(message, default=str).encode("utf-8", "replace") + b"\n"
    view = memoryview(line)
    while view:
        view = view[os.write(RESULT_FD, view) :]


def _stdio(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    exec(compile(job["source"], "program.py", "exec", dont_inherit=True), namespace)
    _report({"end": {"exit": 0}})
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
    requests = io.BufferedReader(io.FileIO(0, "r", closefd=False))
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
    replies = io.BufferedReader(io.FileIO(0, "r", closefd=False))

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

__all__ = ["JOB_FD", "MAX_LINE", "RESULT_FD", "ValueEncodingError", "run"]
