"""What one process may ask the other to do with the objects that it was given."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox.jail import describing
from sandbox.jail.values import ValueEncodingError, builtin_base

_MAX_ITEMS = 64


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """One request: an operation on an object, with a name and arguments as far as it wants them."""

    operation: str
    name: str
    target: Any
    args: Any
    keywords: Any


class Operations:
    """Does what is asked; this is the program's side, which lets everything be done with its objects.

    Attributes:
        late: exceptions of iterators that come after the items that were fetched before them, by identity.
    """

    def __init__(self) -> None:
        self.late: dict[int, Exception] = {}

    def check(self, request: ObjectRequest) -> None:
        """Refuse a request.

        Raises:
            Exception: it may not be asked for.
        """

    def may_give(self, value: Any) -> None:
        """Refuse to give an object away.

        Raises:
            ValueEncodingError: it must not cross.
        """

    def gives(self, value: Any, kind: type) -> bool:
        """Whether an object is given away by reference; otherwise its value crosses."""
        if kind.__module__ == "numpy":
            return False
        return not (isinstance(value, describing.CONTAINERS) and kind.__module__ in ("builtins", "collections"))

    def run(self, awaitable: Any) -> Any:
        """What an awaitable comes to."""
        raise NotImplementedError

    def names(self, wanted: Any) -> dict[str, Any]:
        """What the program defines by these names."""
        raise ValueEncodingError(f"there are no {wanted} here")

    def read(self, request: ObjectRequest) -> str:
        """Text of the standard input of the tests."""
        raise ValueEncodingError(f"there is no {request.name} here")


def _special(_: Operations, request: ObjectRequest) -> Any:
    name, target, args = request.name, request.target, request.args
    if name in _OPERATORS:
        return _OPERATORS[name](target, *args)
    if name not in describing.SPECIALS:
        raise ValueEncodingError("no such special method")
    method = getattr(type(target), name, None)
    if method is None:
        raise TypeError(f"{type(target).__name__!r} object has no {name}")
    return method(target, *args)


def _next(owner: Operations, request: ObjectRequest) -> Any:
    """Up to `args[0]` items as ("item", item), and ("end", value) behind the last."""
    target, (size, sent) = request.target, request.args
    if (late := owner.late.pop(id(target), None)) is not None:
        raise late
    found: list[tuple[str, Any]] = []
    try:
        while len(found) < min(size, _MAX_ITEMS):
            found.append(("item", next(target) if sent is None else target.send(sent)))
            sent = None
    except StopIteration as stop:
        found.append(("end", stop.value))
    except Exception as error:
        if not found:
            raise
        owner.late[id(target)] = error
    return found


def _throw(_: Operations, request: ObjectRequest) -> Any:
    try:
        return [("item", request.target.throw(request.args[0]))]
    except StopIteration as stop:
        return [("end", stop.value)]


def _anext(owner: Operations, request: ObjectRequest) -> Any:
    try:
        return (owner.run(request.target.__anext__()),)
    except StopAsyncIteration:
        return ()


def _close(_: Operations, request: ObjectRequest) -> None:
    if hasattr(request.target, "close"):
        request.target.close()


_OPERATORS: dict[str, Callable[..., Any]] = {
    **describing.OPERATORS,
    "__getitem__": operator.getitem,
    "__contains__": operator.contains,
    "__iter__": iter,
}
OPERATIONS: dict[str, Callable[[Operations, ObjectRequest], Any]] = {
    "call": lambda _, request: request.target(*request.args, **request.keywords),
    "method": lambda _, request: getattr(request.target, request.name)(*request.args, **request.keywords),
    "get": lambda _, request: getattr(request.target, request.name),
    "set": lambda _, request: setattr(request.target, request.name, *request.args),
    "delete": lambda _, request: delattr(request.target, request.name),
    "dir": lambda _, request: dir(request.target),
    "copy": lambda _, request: copy.copy(request.target),
    "deepcopy": lambda _, request: copy.deepcopy(request.target),
    "value": lambda _, request: builtin_base(request.target),
    "special": _special,
    "next": _next,
    "throw": _throw,
    "close": _close,
    "await": lambda owner, request: owner.run(request.target),
    "anext": _anext,
    "names": lambda owner, request: owner.names(request.args),
    "input": lambda owner, request: owner.read(request),
}
