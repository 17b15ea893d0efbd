"""The tests' end of the conversation: runs trusted tests, whose every use of the program is a request to it.

What the tests see of the program are values, and handles of objects that are no values. A handle lets a program say
what its object does, so it must not let it say that its object is right. The rules:

- A value that the tests made is compared here, with values. A handle equals no value, has no order with values, and
  takes part in no arithmetic with them. Whether something is `in` it is found out by going through it.
- Objects that the tests made themselves, by calling what they use as a class (see `class_names`), are what is tested:
  their own methods decide. That ends when the program returns the object where it could have returned another.
- What comes of operators on such objects may be combined with values to become another object, never a value.
- Two objects of the program are compared by the program, on the side of the one that the tests made.
- Methods of builtin types that say yes or no, such as `startswith`, are not to be had of other objects.
- A context manager suppresses nothing but what a `raise` of the tests raised.

Changes of arguments are seen by the tests where the call was made for their sake: where the function returned None, or
the tests throw its result away, or the job has `mutates`. Otherwise a function could empty its argument and return
nothing, and `assert candidate(xs) == sorted(xs)` would hold.
"""

from __future__ import annotations

import builtins
import copy
import enum
import opcode
import sys
import types
from types import FrameType
from typing import Any

from sandbox.jail import serialization
from sandbox.jail.describing import COMPARISONS, EXCEPTIONS, IN_PLACE, OPERATORS
from sandbox.jail.handles import ExceptionHandle, Handle, HandleType, UnsupportedError
from sandbox.jail.operations import ObjectRequest, Operations
from sandbox.jail.peers import Peer
from sandbox.jail.serialization import Serializer
from sandbox.jail.values import ValueEncodingError

# What a handle may do with the values of tests: everything; become another handle; that, but not turn into a value.
_MADE, _DERIVED, _INFORMED = 3, 2, 1
_TO_VALUES = frozenset({
    "__bool__", "__len__", "__int__", "__float__", "__complex__", "__index__", "__abs__", "__round__", "__trunc__",
    "__floor__", "__ceil__", "__hash__", "__contains__", "__getitem__", "__iter__", "__next__",
})  # fmt: skip
_DECIDING = frozenset(
    name
    for kind in (str, bytes, set, int, float, list, dict, tuple)
    for name in dir(kind)
    if name.startswith("is") or name in ("startswith", "endswith")
) | {"all", "any", "equals", "is_relative_to", "intersection", "difference", "symmetric_difference"}
# Tests have the order of items from these; what an object of the program finds is an object or yes.
_PLACES = frozenset({"index", "rindex", "find", "rfind"})
# Of the tests' objects, these let nobody in.
_CLOSED = (
    type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.GeneratorType, types.CoroutineType,
    types.AsyncGeneratorType, property, staticmethod, classmethod,
)  # fmt: skip
_OF_CLOSED = ("__call__", "__iter__", "__next__", "__aiter__")
# Special methods that usually return the object itself; of others that is a result like any other.
_OF_ITSELF = frozenset({"__iter__", "__enter__", "__aiter__", "__aenter__"})
_NEVER_GIVEN = (types.ModuleType, types.FrameType, types.TracebackType, types.CodeType)
_ANSWERED = ("call", "method", "get", "special", "next", "close", "await", "anext")
_OUR_MODULES = ("unittest.case", "unittest.result", "unittest.suite", "sandbox")


class CandidateError(Exception):
    """The program raised an exception that neither the tests nor the language define."""


class _TestOperations(Operations):
    """What the program may ask of the tests' objects: to call them, and their public attributes."""

    def __init__(self, peer: TestPeer) -> None:
        super().__init__()
        self._peer = peer

    def check(self, request: ObjectRequest) -> None:
        """See `Operations`."""
        operation, name, target = request.operation, request.name, request.target
        if operation == "input":
            return
        if operation not in _ANSWERED or not self._peer.given.has(target):
            raise ValueEncodingError("the tests answer no such request")
        closed = isinstance(target, _CLOSED) and not (isinstance(target, type) and target.__module__ == "__main__")
        if closed and operation == "special" and name not in _OF_CLOSED:
            raise TypeError(f"{type(target).__name__!r} object has no {name[:60]}")
        if operation in ("method", "get") and (name[:1] == "_" or not name or closed):
            raise AttributeError(f"{type(target).__name__!r} object has no attribute {name[:60]!r}")

    def may_give(self, value: Any) -> None:
        """See `Operations`."""
        self.gives(value, value)

    def gives(self, value: Any, kind: type) -> bool:
        """See `Operations`."""
        ours = any(base.__module__.startswith(_OUR_MODULES) for base in kind.__mro__)
        if isinstance(value, _NEVER_GIVEN) or ours:
            raise ValueEncodingError(f"a {kind.__name__} of the tests cannot be given to the program")
        return super().gives(value, kind)

    def run(self, awaitable: Any) -> Any:
        """See `Operations`."""
        return run(awaitable)

    def read(self, request: ObjectRequest) -> str:
        """See `Operations`. Tests may have replaced the standard input, or `input` itself."""
        if request.name == "input":
            return str(builtins.input(*request.args))
        return str((sys.stdin.read if request.name == "read" else sys.stdin.readline)(*request.args))


def run(awaitable: Any) -> Any:
    """What an awaitable of the tests comes to, even while another event loop runs."""
    import asyncio

    async def waiting() -> Any:
        return await awaitable

    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return asyncio.run(waiting())
    finally:
        asyncio._set_running_loop(running)


class TestPeer(Peer):
    """The tests' end.

    Attributes:
        program_raised: the last exception of the program that reached the tests.
        callback_failed: an assertion that failed in a call back, whatever the program made of it.
        shared_classes: names of classes of the tests whose objects the program may send by their attributes.
        class_names: names of the program that the tests use as classes; "" for the function under test.
    """

    __test__ = False

    def __init__(self, namespace: dict[str, Any], *, mutates: bool) -> None:
        super().__init__(_TestOperations(self))
        self._namespace, self._mutates = namespace, mutates
        self._standing: dict[int, int] = {}
        # Classes that the program put where the tests do not use one.
        self._misplaced: set[int] = set()
        self.class_names: set[str] = set()
        self.shared_classes: set[str] = set()
        self.program_raised: list[BaseException] = []
        self.callback_failed: BaseException | None = None

    def names(self, wanted: list[str]) -> dict[str, Any]:
        """What the program defines by these names, as far as it does; "" is the function under test, "*" all names."""
        answer = self.ask("names", "", None, *wanted)
        # Nothing but what was asked for: it becomes a name of the tests.
        found = {name: answer[name] for name in wanted if name in answer} if type(answer) is dict else {}
        for name, value in found.items():
            self._take_class(name, value)
        return found

    def _take_class(self, name: str, value: Any) -> None:
        """Let a class make objects that are what is tested, where the tests use its name as that of a class."""
        if not isinstance(value, HandleType):
            return
        if name not in self.class_names:
            self._misplaced.add(id(value))
        if id(value) not in self._misplaced:
            self._standing[id(value)] = _MADE
        else:
            self._standing.pop(id(value), None)

    # Values and handles

    def standing(self, value: Any) -> int:
        """What an object may do with the values of tests."""
        return self._standing.get(id(value), 0)

    def returned(self, handle: Any) -> None:
        """See `Peer`."""
        self._standing.pop(id(handle), None)

    def call(self, target: Any, name: str, args: Any, keywords: Any, caller: Any) -> Any:
        """See `handles.Asking`."""
        self.calls += 1

        def finish(serializer: Serializer, text: str, result: Any, changed: Any) -> Any:
            return self._changed(serializer, text, result, changed, caller)

        container = self.container_of(target) if name in _PLACES | _DECIDING | {"count"} else ""
        if container and not self.is_tested(target) and hasattr(getattr(builtins, container), name):
            return getattr(self.ask("value", "", target), name)(*args, **keywords)
        self._permit(target, name)
        before = len(self.got)
        result = self.request("method" if name else "call", name, target, args, keywords, finish)
        if name in _PLACES and type(result) is int and not self.is_tested(target):
            raise AttributeError(f"{type(target).__name__!r} object of the program cannot be asked for {name!r}")
        by_class = isinstance(target, HandleType) and not name and self.standing(target) == _MADE
        if by_class and isinstance(result, Handle) and len(self.got) > before:
            self._standing[id(result)] = _MADE
        return result

    def operate(self, name: str, left: Any, right: Any) -> Any:
        """See `handles.Asking`."""
        ours = [one for one in (left, right) if self.number_of(one) is None]
        if ours:
            return self._operate_with_value(name, left, right, ours[0])
        if name in ("__eq__", "__ne__") and self.standing(right) == _MADE != self.standing(left):
            left, right = right, left
        standings = [self.standing(one) for one in (left, right)]
        kept = standings[0]
        result = self.ask("special", name, left, right)
        if self.number_of(result) is None:
            if name not in COMPARISONS and _INFORMED in standings:
                raise TypeError(f"{name} of the program's objects makes a value of what it was told")
        elif name in IN_PLACE and result is left and kept:
            self._standing[id(result)] = kept
        elif all(standings):
            self._standing[id(result)] = _INFORMED if _INFORMED in standings else _DERIVED
        return result

    def _operate_with_value(self, name: str, left: Any, right: Any, value: Any) -> Any:
        handle = right if value is left else left
        standing = self.standing(handle)
        if standing != _MADE and name == "__contains__":
            return any(item is value or item == value for item in handle)
        if standing != _MADE and self.container_of(handle):
            # What extends a container is compared and combined as that.
            plain = self.ask("value", "", handle)
            return OPERATORS[name](*((plain, value) if handle is left else (value, plain)))
        if standing == 0 or (standing != _MADE and name in COMPARISONS):
            return NotImplemented
        result = self.ask("special", name, left, right)
        if self.number_of(result) is not None:
            changed = standing if name in IN_PLACE and result is left else min(standing, _DERIVED)
            self._standing[id(result)] = changed if standing == _MADE else _INFORMED
        elif standing != _MADE:
            raise TypeError(f"{name} of the program's object makes a value of what it was told")
        return result

    def special(self, name: str, target: Any, args: Any) -> Any:
        """See `handles.Asking`."""
        standing = self.standing(target)
        result = self.ask("special", name, target, *args)
        if standing == _INFORMED and name in _TO_VALUES and self.number_of(result) is None:
            raise TypeError(f"{name} of the program's object makes a value of what it was told")
        if result is target and standing and name in _OF_ITSELF:
            self._standing[id(target)] = standing
        return result

    def is_tested(self, value: Any) -> bool:
        """See `handles.Asking`."""
        return self.standing(value) == _MADE

    def _permit(self, target: Any, name: str) -> None:
        """Refuse names that an object of the program may not have."""
        if name in _DECIDING and not self.is_tested(target):
            raise AttributeError(f"{type(target).__name__!r} object of the program cannot be asked for {name!r}")

    def ask(self, operation: str, name: str, target: Any, *args: Any) -> Any:
        """See `handles.Asking`."""
        if operation == "get":
            self._permit(target, name)
        result = super().ask(operation, name, target, *args)
        if operation == "get":
            self._take_class(name, result)
            if name in _PLACES and callable(result) and not self.is_tested(target):
                return lambda *args, **keywords: self.call(target, name, args, keywords, sys._getframe(1))
        if operation in ("copy", "deepcopy") and isinstance(result, Handle) and self.standing(target):
            self._standing[id(result)] = self.standing(target)
        return result

    # What crosses

    def held(self, value: Any) -> Any:
        """See `serialization.References`: plain instances of the tests' classes."""
        kind = type(value)
        plain = kind.__module__ == "__main__" and hasattr(value, "__dict__") and not isinstance(kind, HandleType)
        if not plain or isinstance(value, BaseException | type | enum.Enum | int | str | float | tuple | list | dict):
            return None
        self._operations.gives(value, kind)
        return self.given.number(value), self.given.class_number(kind)

    def revive(self, held: Any) -> Any:
        """See `serialization.References`: of the tests' own class, so that its methods are the tests'."""
        _, class_number = held
        name = self._classes[class_number].__name__
        own: Any = self._namespace.get(name)
        if name not in self.shared_classes or not isinstance(own, type) or own.__module__ != "__main__":
            raise ValueEncodingError("an instance of no class of the tests")
        made: Any = object.__new__(own)
        if not hasattr(made, "__dict__"):
            raise ValueEncodingError("an instance that has no attributes")
        return made

    def accept(self, instance: Any, attributes: dict[str, Any]) -> None:
        """See `serialization.References`: nothing in place of a method of the tests."""
        own = vars(instance)
        for name, value in attributes.items():
            usual = getattr(type(instance), name, None)
            if (callable(usual) or isinstance(usual, property)) and own.get(name) is not value:
                raise ValueEncodingError(f"the program puts something in place of {name[:60]}")

    def cannot_send(self, error: ValueEncodingError) -> BaseException:
        """See `Peer`."""
        # What the tests pass on may be what the program returned, nested as deeply as it may be.
        passed_on = self.calls > 1 and any(word in str(error) for word in ("too deeply", "too large", "too many"))
        return error if passed_on else UnsupportedError(str(error))

    def _changed(self, serializer: Serializer, text: str, result: Any, changed: Any, caller: FrameType) -> Any:
        if not changed:
            return result
        if result is not None and not self._mutates and not _discarded(caller):
            # The result may hold arguments as they have become, while the tests keep theirs as they were.
            fresh = Serializer(self)
            # Handles stand for the same objects in the copy.
            memo = {id(one): one for one in self.got.values()}
            copies = copy.deepcopy((serializer.sent, serializer.instances), memo)
            fresh.objects, fresh.instances = list(copies[0]), list(copies[1])
            serializer = fresh
            result, changed = serializer.decode(text)
        serialization.apply(serializer, changed)
        return result

    def receive(self) -> dict[str, Any]:
        """See `Peer`; what the program printed is printed here."""
        message = super().receive()
        if message.get("printed"):
            sys.stdout.write(message["printed"])
        return message

    # Exceptions

    def exception(self, message: dict[str, Any]) -> BaseException:
        """An exception the tests know by one of its names; none that would end a loop or skip a test."""
        found = self._exception(message)
        self.program_raised.append(found)
        return found

    def _exception(self, message: dict[str, Any]) -> BaseException:
        own = self.given.objects[message["own"]] if message.get("own", -1) in range(len(self.given.objects)) else None
        if isinstance(own, BaseException):
            return own
        args = self.arguments(message)
        if message["raised"][:1] == ["SystemExit"]:
            return SystemExit(*args)
        itself = Serializer(self).decode(message["object"]) if "object" in message else None
        for kind in self._known(message):
            if issubclass(kind, StopIteration | StopAsyncIteration) or kind.__module__.startswith("unittest"):
                break
            if kind is Exception:
                continue
            if isinstance(itself, ExceptionHandle) and kind.__module__ == "builtins":
                break
            try:
                return kind(*args)
            except Exception:  # noqa: BLE001 - a constructor that wants other arguments
                made = kind.__new__(kind, *args)
                made.args = args
                return made
        if isinstance(itself, ExceptionHandle) and isinstance(itself, Exception):
            return itself
        return CandidateError(*args)

    def _known(self, message: dict[str, Any]) -> list[type[Exception]]:
        """Classes of the exception that this process has, the most special first."""
        named = message["module"]
        module = sys.modules.get(named) if named.partition(".")[0] in sys.stdlib_module_names else None
        first = message["raised"][:1]
        found = [getattr(module, name, None) for name in first if module is not None and module is not builtins]
        found += [self._namespace.get(name, EXCEPTIONS.get(name)) for name in message["raised"]]
        return [
            kind
            for kind in found
            if isinstance(kind, type) and issubclass(kind, Exception) and not isinstance(kind, HandleType)
        ]

    def raised(self, error: BaseException) -> dict[str, Any]:
        """See `Peer`. An assertion that fails in a call back fails the tests."""
        if isinstance(error, AssertionError) or type(error).__module__.startswith(("unittest", "pytest")):
            self.callback_failed = self.callback_failed or error
        return super().raised(error) | {"own": self.given.number(error)}


def _discarded(caller: FrameType) -> bool:
    """Whether the caller throws away what the call it is in returns: whether the call is a statement."""
    code, index = caller.f_code.co_code, caller.f_lasti + 2
    while index < len(code) and code[index] == opcode.opmap.get("CACHE", 0):
        index += 2
    return index < len(code) and code[index] == opcode.opmap["POP_TOP"]
