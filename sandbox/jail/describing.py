"""What one process tells the other about an object that stays with it: its class, and what that class can do.

A class is a tuple (number, name, bases, specials, methods, shape, doc, fields, container):

    bases      numbers of classes that were described before, and names of builtin exceptions
    specials   the special methods that it defines, of those in `SPECIALS`
    methods    its plain functions, which are called in one message
    shape      what its instances are there: "object", "function", "generator", "coroutine", "exception", or the builtin
               type of values that cannot change
    fields     of a data class, or None
    container  the builtin container that it extends, or ""
"""

from __future__ import annotations

import builtins
import dataclasses
import datetime
import decimal
import fractions
import inspect
import operator
import pathlib
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

COMPARISONS = {
    "__eq__": operator.eq, "__ne__": operator.ne, "__lt__": operator.lt, "__le__": operator.le, "__gt__": operator.gt,
    "__ge__": operator.ge,
}  # fmt: skip
ARITHMETIC = {
    "__add__": operator.add, "__sub__": operator.sub, "__mul__": operator.mul, "__truediv__": operator.truediv,
    "__floordiv__": operator.floordiv, "__mod__": operator.mod, "__pow__": operator.pow, "__matmul__": operator.matmul,
    "__and__": operator.and_, "__or__": operator.or_, "__xor__": operator.xor, "__lshift__": operator.lshift,
    "__rshift__": operator.rshift, "__divmod__": divmod,
}  # fmt: skip
REFLECTED = {f"__r{name[2:]}": name for name in ARITHMETIC}
IN_PLACE = {
    f"__i{name[2:]}": getattr(operator, f"__i{name[2:]}") for name in ARITHMETIC if name != "__divmod__"
}  # fmt: skip
#: Of one object, with arguments that are not compared with anything.
OTHERS = (
    "__len__", "__iter__", "__next__", "__reversed__", "__getitem__", "__setitem__", "__delitem__", "__contains__",
    "__abs__", "__neg__", "__pos__", "__invert__", "__float__", "__int__", "__index__", "__complex__", "__round__",
    "__trunc__", "__floor__", "__ceil__", "__bool__", "__str__", "__repr__", "__format__", "__bytes__", "__hash__",
    "__enter__", "__exit__", "__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__call__",
    "__length_hint__", "__fspath__",
)  # fmt: skip
UNHASHABLE = "no hash"
SPECIALS = frozenset({*COMPARISONS, *ARITHMETIC, *REFLECTED, *IN_PLACE, *OTHERS})
OPERATORS: dict[str, Callable[..., Any]] = {**COMPARISONS, **ARITHMETIC, **IN_PLACE}
#: Types of values that cannot change, whose subclasses cross by value, with the most special ones first.
VALUES = (int, float, complex, str, bytes, tuple, frozenset)
_VALUE_NAMES = frozenset(kind.__name__ for kind in VALUES)
CONTAINERS = (list, dict, set, bytearray)

_FUNCTIONS = (
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType,
    types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType,
)  # fmt: skip
_SHARED_FUNCTIONS = (
    "abs", "all", "any", "ascii", "bin", "callable", "chr", "divmod", "format", "hash", "hex", "id", "iter", "len",
    "max", "min", "next", "oct", "ord", "pow", "print", "repr", "round", "sorted", "sum",
)  # fmt: skip
_SHARED_TYPES = (
    bool, bytearray, bytes, complex, dict, enumerate, filter, float, frozenset, int, list, map, object, range, reversed,
    set, slice, str, tuple, zip, type(None),
)  # fmt: skip
_LIBRARY_TYPES = (
    decimal.Decimal, fractions.Fraction, datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
    datetime.timezone, uuid.UUID, pathlib.Path, pathlib.PurePath, Counter, OrderedDict, defaultdict, deque,
)  # fmt: skip
#: Exceptions that one process may raise in the other: none that ends a loop or more than a test.
EXCEPTIONS: dict[str, type[Exception]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(kind, StopIteration | StopAsyncIteration | Warning)
}
#: What both processes have, by name: it crosses as its name, and is used where it arrives.
SHARED: dict[str, Any] = {
    **{name: getattr(builtins, name) for name in _SHARED_FUNCTIONS},
    **{kind.__name__: kind for kind in _SHARED_TYPES},
    **{f"{kind.__module__}.{kind.__name__}": kind for kind in _LIBRARY_TYPES},
    **{
        f"{kind.__name__}.{name}": part
        for kind in _SHARED_TYPES
        for name, part in vars(kind).items()
        if isinstance(part, types.MethodDescriptorType) and not name.startswith("_")
    },
    **EXCEPTIONS,
}
_SHARED_NAMES = {id(value): name for name, value in SHARED.items()}


def shared_name(value: Any) -> str | None:
    """The name of what both processes have, or None."""
    return _SHARED_NAMES.get(id(value))


def shape_of(kind: type) -> str:
    """What instances of a class are in the other process."""
    if issubclass(kind, BaseException):
        return "exception"
    if issubclass(kind, types.CoroutineType):
        return "coroutine"
    if kind is types.AsyncGeneratorType:
        return "object"
    if issubclass(kind, _FUNCTIONS):
        return "function"
    if kind.__module__ in ("builtins", "itertools") and hasattr(kind, "__next__"):
        return "generator"
    return next((base.__name__ for base in VALUES if issubclass(kind, base)), "object")


def describe(kind: type, number: int, numbered: Callable[[type], int]) -> tuple[Any, ...]:
    """What is told about a class.

    Args:
        kind: the class.
        number: its own.
        numbered: gives the number of a base.
    """
    bases: list[int | str] = []
    for base in kind.__bases__:
        if base.__module__ != "builtins":
            bases.append(numbered(base))
        elif EXCEPTIONS.get(base.__name__) is base:
            bases.append(base.__name__)
    shape = shape_of(kind)
    specials = _specials(kind, shape)
    if kind.__hash__ is None:
        specials.append(UNHASHABLE)
    methods = [name for name, part in vars(kind).items() if isinstance(part, types.FunctionType) and name[:2] != "__"]
    fields = [one.name for one in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None
    doc = kind.__doc__ if isinstance(kind.__doc__, str) and kind.__module__ != "builtins" else None
    container = next((one.__name__ for one in CONTAINERS if issubclass(kind, one)), "")
    return number, kind.__name__, bases, specials, methods, shape, doc, fields, container


def _specials(kind: type, shape: str) -> list[str]:
    if shape == "function":
        return []
    # Of exceptions and values, what is builtin is there already.
    builtin = shape == "exception" or shape in _VALUE_NAMES
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__[:-1]):
        if not (builtin and base.__module__ == "builtins"):
            found |= {name: vars(base)[name] for name in SPECIALS & vars(base).keys()}
    return [name for name, part in found.items() if part is not None]


def callable_parts(function: Any) -> tuple[str, str | None, list[tuple[Any, ...]] | None, bool]:
    """Name, documentation, parameters (name, kind, default or `...`) and whether it is a coroutine function."""
    name, doc = getattr(function, "__name__", ""), getattr(function, "__doc__", None)
    try:
        found = inspect.signature(function).parameters.values()
        parameters = [(one.name, int(one.kind), one.default is not one.empty) for one in found]
    except (ValueError, TypeError):
        parameters = None
    return (
        name if type(name) is str else "",
        doc if type(doc) is str else None,
        parameters,
        inspect.iscoroutinefunction(function),
    )


def signature(parameters: list[tuple[Any, ...]]) -> inspect.Signature:
    """The signature of what `callable_parts` told.

    Raises:
        ValueError, TypeError: it is none.
    """
    made = []
    for name, kind, optional in parameters:
        default = ... if optional is True else inspect.Parameter.empty
        made.append(inspect.Parameter(name, inspect._ParameterKind(kind), default=default))
    return inspect.Signature(made)
