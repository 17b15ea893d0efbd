"""Handles: what stands for an object of the other process. Whatever is done with one is done there, over the RPC.

Every class of the other process gets a type here, and its objects are instances of that type, so that `isinstance`,
`except` and `callable` answer as they would in one process. Nothing of ours is kept in them: a `Peer` knows which
number each one has.
"""

from __future__ import annotations

import dataclasses
import opcode
import sys
from collections.abc import Callable, Generator
from typing import Any, Protocol

from sandbox.jail import describing
from sandbox.jail.describing import (
    ARITHMETIC,
    COMPARISONS,
    EXCEPTIONS,
    IN_PLACE,
    OPERATORS,
    REFLECTED,
    SPECIALS,
    UNHASHABLE,
)
from sandbox.jail.values import ValueEncodingError

MAX_CLASSES = 1000
_NAME_CHARS = 60
_VALUES = {kind.__name__: kind for kind in describing.VALUES}
_ATTRIBUTES = frozenset({"__dict__", "__annotations__", "__wrapped__", "__self__", "__func__", "__members__"})
_PREFETCH, _MAX_PREFETCH = 8, 64
_BUILDING = object()
# Special methods of values that classes of the program may have of their own: they only show something.
_SHOWING = frozenset({"__str__", "__repr__", "__format__", "__abs__", "__neg__", "__pos__", "__invert__", "__round__"})
_RAISE = opcode.opmap["RAISE_VARARGS"]


class UnsupportedError(BaseException):
    """The tests do what cannot be done from another process. Not an `Exception`, lest they catch it."""


class Asking(Protocol):
    """What handles need of a `Peer`."""

    def ask(self, operation: str, name: str, target: Any, *args: Any) -> Any:
        """Have something done with an object of the other process; what comes of it."""

    def call(self, target: Any, name: str, args: Any, keywords: Any, caller: Any, /) -> Any:
        """Call an object, or a method of it."""

    def operate(self, name: str, left: Any, right: Any) -> Any:
        """Have an operator done, one of whose operands is a handle."""

    def special(self, name: str, target: Any, args: Any) -> Any:
        """Have a special method called."""

    def number_of(self, value: Any, /) -> int | None:
        """The number of the object that a handle stands for; None for what is no handle."""

    def is_tested(self, value: Any, /) -> bool:
        """Whether the class of an object is what is tested, so that its own methods decide."""


class HandleType(type):
    """A class of the other process."""

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any], token: Any = None) -> Any:
        if token is not _BUILDING:
            raise UnsupportedError(f"a class {name} that extends one of the program cannot be made by the tests")
        return super().__new__(mcs, name, bases, body)

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], token: Any = None) -> None:
        del token
        super().__init__(name, bases, body)

    def __call__(cls, *args: Any, **keywords: Any) -> Any:
        return peer().call(cls, "", args, keywords, sys._getframe(1))

    def __getattr__(cls, name: str) -> Any:
        return _attribute(cls, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        if name[:2] == "__":
            # Of the machinery of classes, as `__abstractmethods__`.
            type.__setattr__(cls, name, value)
        else:
            peer().ask("set", name, cls, value)

    def __delattr__(cls, name: str) -> None:
        peer().ask("delete", name, cls)

    def __bool__(cls) -> bool:
        return True

    def __iter__(cls) -> Any:
        return peer().special("__iter__", cls, ())

    def __len__(cls) -> Any:
        return peer().special("__len__", cls, ())

    def __getitem__(cls, key: Any) -> Any:
        return peer().special("__getitem__", cls, (key,))

    def __contains__(cls, item: Any) -> Any:
        return peer().operate("__contains__", cls, item)


class Handle:
    """An object of the other process. Types of handles add the special methods that its class has there."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        peer().ask("set", name, self, value)

    def __delattr__(self, name: str) -> None:
        peer().ask("delete", name, self)

    def __dir__(self) -> Any:
        return peer().ask("dir", "", self)

    def __copy__(self) -> Any:
        return peer().ask("copy", "", self)

    def __deepcopy__(self, memo: Any) -> Any:
        return peer().ask("deepcopy", "", self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r}, which is in another process")


class FunctionHandle(Handle):
    """A function or method of the other process."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("__name__", "__qualname__", "__doc__", "__signature__", "__wrapped__", "__module__"):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return peer().call(self, "", args, keywords, sys._getframe(1))

    def __repr__(self) -> str:
        return f"<function {self.__name__}>"


class ExceptionHandle(Handle):
    """An exception of a class of the other process; its type is an exception here, too."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name[:2] == "__":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("an exception of another process cannot be pickled")


_peer: Asking | None = None


def peer() -> Asking:
    """The one conversation of this process."""
    assert _peer is not None
    return _peer


def converse(with_: Asking) -> None:
    """Let all handles of this process ask this peer."""
    global _peer
    _peer = with_


def _attribute(owner: Any, name: str) -> Any:
    if name[:2] == "__" and name not in _ATTRIBUTES:
        raise AttributeError(f"{getattr(type(owner), '__name__', '')!r} object has no attribute {name!r}")
    return peer().ask("get", name, owner)


def type_of(description: Any, known: dict[int, type]) -> tuple[int, type, str, str]:
    """Number, type, shape and container of a class that the other process describes.

    Raises:
        ValueEncodingError: it is no description.
    """
    try:
        number, name, bases, specials, methods, shape, doc, fields, container = description
        named = type(name) is str and name.isidentifier() and len(name) <= _NAME_CHARS and name[:2] != "__"
        of_names = all(type(part) is str for part in (*specials, *methods, *(fields or ()), shape, container))
        if type(number) is not int or number in known or len(known) >= MAX_CLASSES or not of_names:
            raise ValueError
        parents = [known[base] if type(base) is int else EXCEPTIONS[base] for base in bases]
    except (ValueError, TypeError, LookupError):
        raise ValueEncodingError("malformed description of a class, or too many of them") from None
    body = _body(specials, methods, shape)
    body["__doc__"] = doc if type(doc) is str else None
    body["__module__"] = "program"
    if fields is not None:
        body["__dataclass_fields__"] = {field: _field(field) for field in fields}
    made = _made(name if named else "Handle", _bases(shape, parents), body)
    return number, made, shape, container


def _bases(shape: str, parents: list[type]) -> list[tuple[type, ...]]:
    """What a type may extend, the first that Python allows."""
    own: tuple[type, ...]
    if shape == "exception":
        own = tuple(parent for parent in parents if issubclass(parent, Exception)) or (Exception,)
        mixed: tuple[type, ...] = own if issubclass(own[0], ExceptionHandle) else (ExceptionHandle, *own)
        return [mixed, (ExceptionHandle, Exception)]
    if shape == "function":
        return [(FunctionHandle,)]
    own = tuple(parent for parent in parents if issubclass(parent, Handle) and not issubclass(parent, BaseException))
    value = (_VALUES[shape],) if shape in _VALUES else ()
    return [(*own, *value), (*own,), (Handle, *value)] if own else [(Handle, *value)]


def _made(name: str, choices: list[tuple[type, ...]], body: dict[str, Any]) -> type:
    for bases in choices:
        if not issubclass(bases[0], BaseException | ExceptionHandle | FunctionHandle):
            body["__slots__"] = ("__weakref__",) if bases == (Handle,) else ()
        try:
            made: type = HandleType(name, bases, dict(body), _BUILDING)
            return made
        except TypeError:
            continue
    raise ValueEncodingError("a class that cannot be made here")


def _field(name: str) -> Any:
    made = dataclasses.field()
    made.name, made.type = name, Any
    made._field_type = dataclasses._FIELD  # type: ignore[attr-defined]
    return made


def _body(specials: list[str], methods: list[str], shape: str) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name in methods:
        if name.isidentifier() and name[:2] != "__":
            body[name] = _method(name, getattr(_VALUES.get(shape), name, None))
    if shape == "function":
        return body
    for name in specials:
        if name == UNHASHABLE:
            body["__hash__"] = None
        elif name in SPECIALS:
            native = getattr(_VALUES[shape], name, None) if shape in _VALUES else None
            if native is None:
                body[name] = _special(name)
            elif name in OPERATORS or name in REFLECTED:
                body[name] = _with_handles(_special(name), native)
            elif name in _SHOWING:
                body[name] = _special(name)
    if "__eq__" in body and "__hash__" not in body:
        body["__hash__"] = _VALUES[shape].__hash__ if shape in _VALUES else None
    return body


def _with_handles(forwarded: Callable[..., Any], native: Callable[..., Any]) -> Callable[..., Any]:
    """An operator of a value that the program gave a class of its own: between two of them it is the class's."""
    return lambda self, other: forwarded(self, other) if peer().number_of(other) is not None else native(self, other)


def _method(name: str, native: Callable[..., Any] | None) -> Callable[..., Any]:
    """A method of the class; of a value that the tests did not make, what the builtin type has of that name."""

    def method(self: Any, /, *args: Any, **keywords: Any) -> Any:
        if native is not None and not peer().is_tested(self):
            return native(self, *args, **keywords)
        return peer().call(self, name, args, keywords, sys._getframe(1))

    method.__name__ = method.__qualname__ = name
    return method


def _special(name: str) -> Callable[..., Any]:
    if name == "__call__":
        return FunctionHandle.__call__
    if name in REFLECTED:
        usual = REFLECTED[name]
        made: Callable[..., Any] = lambda self, other: peer().operate(usual, other, self)  # noqa: E731
    elif name in COMPARISONS or name in ARITHMETIC or name in IN_PLACE:
        made = lambda self, other: peer().operate(name, self, other)  # noqa: E731
    elif name in ("__exit__", "__aexit__"):
        made = _leave if name == "__exit__" else _leave_later
    elif name == "__next__":
        made = lambda self: _stepped(self)  # noqa: E731
    elif name == "__await__":
        made = lambda self: awaited(self).__await__()  # noqa: E731
    elif name == "__anext__":
        made = lambda self: _next_item(self)  # noqa: E731
    elif name == "__contains__":
        made = lambda self, item: peer().operate(name, self, item)  # noqa: E731
    else:
        made = lambda self, *args: peer().special(name, self, args)  # noqa: E731
    return made


def _leave(self: Any, kind: Any, error: Any, trace: Any) -> bool:
    return bool(peer().special("__exit__", self, (kind, error, None))) and _raised_by_tests(error, trace)


def _leave_later(self: Any, kind: Any, error: Any, trace: Any) -> Any:
    left = peer().special("__aexit__", self, (kind, error, None))

    async def leaving() -> bool:
        return bool(await left) and _raised_by_tests(error, trace)

    return leaving()


def _raised_by_tests(error: Any, trace: Any) -> bool:
    """Whether an exception is one that a `raise` of the tests raised to see it suppressed.

    Others are failures of the tests, or end them: a program could suppress what would have shown it to be wrong.
    """
    if not isinstance(error, Exception) or isinstance(error, AssertionError) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code, index = trace.tb_frame.f_code, trace.tb_lasti
    return bool(trace.tb_frame.f_globals.get("__name__") == "__main__" and code.co_code[index] == _RAISE)


def generated(handle: Any) -> Generator[Any, Any, Any]:
    """A generator here for a generator or another iterator of the other process."""
    sent: Any = None
    ready: list[Any] = []
    size, asked = 1, 0
    try:
        while True:
            if not ready:
                # In a tight loop several are fetched at once, but never before the loop shows itself.
                asked += 1
                size = min(2 * size, _MAX_PREFETCH) if asked > _PREFETCH and sent is None else 1
                answer = peer().ask("next", "", handle, size, sent)
                if type(answer) is not list or not answer or len(answer) > _MAX_PREFETCH + 1:
                    raise ValueEncodingError("malformed items")
                ready = answer[::-1]
            kind, item = ready.pop() if type(ready[-1]) is tuple and len(ready[-1]) == 2 else ("", None)
            if kind == "end":
                return item
            if kind != "item":
                raise ValueEncodingError("malformed items")
            try:
                sent = yield item
            except GeneratorExit:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the tests throw into a generator of the program
                ready = peer().ask("throw", "", handle, error)[::-1]
                sent = None
    except GeneratorExit:
        peer().ask("close", "", handle)
        raise


def _stepped(handle: Any) -> Any:
    kind, item = peer().ask("next", "", handle, 1, None)[0]
    if kind == "end":
        raise StopIteration(item)
    return item


async def awaited(handle: Any) -> Any:
    """A coroutine here for one of the other process."""
    return peer().ask("await", "", handle)


async def _next_item(handle: Any) -> Any:
    found = peer().ask("anext", "", handle)
    if type(found) is not tuple or len(found) != 1:
        raise StopAsyncIteration
    return found[0]
