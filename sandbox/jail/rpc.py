"""The RPC between assert-style tests and the program under test, each in a sandbox of its own.

A call is `{"call": (args, keywords)}`; its reply `{"value": (result, changes)}` or `{"raised": names, "args"}`, with
the text that was `printed`. What crosses is described in `sandbox.jail.serialization`.

Changes of arguments are seen by the tests where the call was made for their sake: where the function returned None, or
the tests throw its result away, or the job has `mutates`. Otherwise a function could empty its argument and return
nothing, and `assert candidate(xs) == sorted(xs)` would hold.
"""

from __future__ import annotations

import builtins
import copy
import io
import json
import opcode
import sys
from types import FrameType, FunctionType
from typing import Any

from sandbox.jail import serialization
from sandbox.jail.program import compiled, entry, report
from sandbox.jail.serialization import Serializer
from sandbox.jail.values import ValueEncodingError

MAX_LINE = 16 * 1024 * 1024
MAX_PRINTED = 1 << 20
_MAX_MESSAGE = 300
_MAX_BASES = 12


class CandidateError(Exception):
    """The tested function raised an exception that neither the tests nor the language define."""


class _UnsupportedError(BaseException):
    """The tests pass the function a value that cannot cross. Not an `Exception`, lest the tests catch it."""


def serve(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    """Answer calls of the program, one line in, one line out, until there are no more."""
    requests = io.BufferedReader(io.FileIO(0, "r", closefd=False))
    sys.stdin = io.StringIO()
    printed = io.BytesIO()
    sys.stdout = io.TextIOWrapper(printed, encoding="utf-8", errors="replace", write_through=True)
    call = entry(job, namespace)
    report({"ready": True})
    while True:
        line = requests.readline(MAX_LINE)
        if not line:
            return 0
        reply = _reply(call, line)
        if not printed.closed and (text := printed.getvalue()):
            reply["printed"] = text[:MAX_PRINTED].decode("utf-8", "replace")
            printed.seek(0)
            printed.truncate()
        report(reply)


def _reply(call: Any, line: bytes) -> dict[str, Any]:
    serializer = Serializer()
    args, keywords = serializer.decode(line)
    before = serialization.snapshots(serializer.objects)
    try:
        result = call(*args, **keywords)
        return {"value": serializer.encode((result, serialization.changes(serializer.objects, before)))}
    except Exception as error:  # noqa: BLE001 - the tests may expect any exception
        names = [kind.__name__ for kind in type(error).__mro__[:_MAX_BASES]]
        try:
            return {"raised": names, "args": Serializer().encode(error.args)}
        except ValueEncodingError:
            return {"raised": names, "args": Serializer().encode((str(error)[:_MAX_MESSAGE],))}


def test(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    """Run the tests and report how they ended."""
    candidate = _Candidate(job, namespace)
    sys.stdin = io.StringIO()
    try:
        setup, _ = compiled(job["setup"], "setup.py")
        tests, _ = compiled([job["source"]], "test.py")
    except SyntaxError as error:
        report({"unusable": f"SyntaxError: {error}"})
        return 0
    try:
        exec(setup, namespace)
        namespace[job["entry"]] = namespace["candidate"] = candidate.function()
        exec(tests, namespace)
        if callable(namespace.get("check")):
            namespace["check"](namespace["candidate"])
        elif not candidate.called:
            _collected(namespace)
    except _UnsupportedError as error:
        report({"unusable": str(error)})
    except SystemExit as error:
        report({"failed": "SystemExit"} if error.code else {"passed": True})
    except (ImportError, NameError) as error:
        own = error is not candidate.raised
        report({"unusable": f"{error} (see preload and setup)"} if own else {"failed": type(error).__name__})
    except Exception as error:  # noqa: BLE001 - tests fail by any exception
        report({"failed": type(error).__name__})
    else:
        report({"passed": True})
    return 0


def _collected(namespace: dict[str, Any]) -> None:
    """Run what pytest or unittest would collect.

    Raises:
        AssertionError: any of it fails or is skipped.
    """
    for name, value in list(namespace.items()):
        if name.startswith("test") and isinstance(value, FunctionType):
            value()
    if "unittest" not in sys.modules:
        return
    import unittest

    for value in list(namespace.values()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == "__main__":
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(value).run(result)
            if not result.wasSuccessful() or result.skipped:
                raise AssertionError("a test case failed")


class _Candidate:
    """What the tests call in place of the program's function."""

    def __init__(self, job: dict[str, Any], namespace: dict[str, Any]) -> None:
        self._replies = io.BufferedReader(io.FileIO(0, "r", closefd=False))
        self._namespace = namespace
        self._entry: str = job["entry"]
        self._mutates = bool(job.get("mutates"))
        self.raised: Exception | None = None
        self.called = False

    def function(self) -> Any:
        """The proxy."""

        def candidate(*args: Any, **keywords: Any) -> Any:
            return self._call(args, keywords, sys._getframe(1))

        candidate.__name__ = candidate.__qualname__ = self._entry
        return candidate

    def _call(self, args: Any, keywords: Any, caller: FrameType) -> Any:
        self.called = True
        serializer = Serializer()
        try:
            call = serializer.encode((args, keywords))
        except ValueEncodingError as error:
            raise _UnsupportedError(str(error)) from None
        report({"call": call})
        line = self._replies.readline(MAX_LINE)
        if not line:
            raise EOFError("the program under test has ended")
        reply = json.loads(line)
        if reply.get("printed"):
            sys.stdout.write(reply["printed"])
        if "value" not in reply:
            self.raised = self._exception(reply)
            raise self.raised
        return self._result(serializer, reply["value"], caller)

    def _result(self, serializer: Serializer, encoded: str, caller: FrameType) -> Any:
        originals = list(serializer.objects)
        result, changed = serializer.decode(encoded)
        if not changed:
            return result
        if result is not None and not self._mutates and not _discarded(caller):
            # The result may hold arguments as they have become, while the tests keep theirs as they were.
            serializer = Serializer()
            serializer.objects = copy.deepcopy(originals)
            result, changed = serializer.decode(encoded)
        serialization.apply(serializer.objects, changed)
        return result

    def _exception(self, reply: dict[str, Any]) -> Exception:
        """An exception the tests know by one of its names; none that would end a loop or skip a test."""
        args = Serializer().decode(reply["args"])
        for name in reply["raised"]:
            kind = self._namespace.get(name, getattr(builtins, name, None))
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                continue
            if issubclass(kind, StopIteration | StopAsyncIteration) or kind.__module__.startswith("unittest"):
                break
            if kind is not Exception:
                try:
                    return kind(*args)
                except Exception:  # noqa: BLE001 - a constructor that wants other arguments
                    break
        return CandidateError(*args)


def _discarded(caller: FrameType) -> bool:
    """Whether the caller throws away what the call it is in returns: whether the call is a statement."""
    code, index = caller.f_code.co_code, caller.f_lasti + 2
    while index < len(code) and code[index] == opcode.opmap.get("CACHE", 0):
        index += 2
    return index < len(code) and code[index] == opcode.opmap["POP_TOP"]
