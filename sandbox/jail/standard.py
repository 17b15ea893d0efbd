"""Values of the standard library's types, and of numpy: how they are taken apart and built, compared and filled."""

from __future__ import annotations

import datetime
import pathlib
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sandbox.jail.values import ValueEncodingError, builtin_base

# Kinds of numbers that numpy and Python share.
_NUMERIC = "biufc"
_MAX_ARRAY = 1_000_000
_FACTORIES: dict[str, type] = {kind.__name__: kind for kind in (list, dict, set, int, float, str, tuple, bool)}

MUTABLE = frozenset({list, dict, set, bytearray, deque, Counter, OrderedDict, defaultdict})


def mutable(value: Any) -> bool:
    """Whether a value is of a type whose changes reach the caller."""
    return type(value) in MUTABLE or _is_array(value)


def parts(value: Any) -> tuple[str, list[Any]] | None:
    """Tag and parts of a value; None if it is of no type known here.

    Raises:
        ValueEncodingError: an array that is too large.
    """
    known = _PARTS.get(type(value))
    if known is not None:
        tag, take_apart = known
        taken = take_apart(value)
        return None if taken is None else (tag, taken)
    if isinstance(value, pathlib.PurePath) and type(value).__module__ == "pathlib":
        return "path", [type(value).__name__, str(value)]
    return _array_parts(value) if type(value).__module__ == "numpy" else None


def built(tag: str, items: list[Any]) -> Any:
    """The value of a tag and its parts.

    Raises:
        ValueError, TypeError, ArithmeticError, AttributeError, LookupError: they make no value.
    """
    return _BUILDERS[tag](*items)


def differ(now: Any, old: Any) -> bool:
    """Whether a container holds other objects than its shallow copy, or in another order."""
    if _is_array(now):
        return bool(now.shape != old.shape or now.dtype != old.dtype or now.tobytes() != old.tobytes())
    if len(now) != len(old):
        return True
    if isinstance(now, dict):
        return any(a is not b or now[a] is not old[b] for a, b in zip(now, old, strict=True))
    if isinstance(now, list | deque):
        return any(a is not b for a, b in zip(now, old, strict=True))
    return bool(now != old)


def fill(target: Any, content: Any) -> None:
    """Give a container the content of another of its type.

    Raises:
        ValueEncodingError: an array of another shape.
    """
    if _is_array(target):
        if target.shape != content.shape:
            raise ValueEncodingError("an array changed its shape")
        target[...] = content
    elif isinstance(target, list | bytearray):
        target[:] = content
    else:
        target.clear()
        target.extend(content) if isinstance(target, deque) else target.update(content)


def _is_array(value: Any) -> bool:
    return bool(
        type(value).__module__ == "numpy" and type(value).__name__ == "ndarray" and value.dtype.kind in _NUMERIC
    )


def _array_parts(value: Any) -> tuple[str, list[Any]] | None:
    if not _is_array(value):
        # Scalars are numbers; arrays of other things are lists.
        return None
    if value.size > _MAX_ARRAY:
        raise ValueEncodingError("an array with too many numbers")
    return "array", [value.dtype.str, list(value.shape), builtin_base(value.ravel())]


def _array(dtype: str, shape: list[int], numbers: list[Any]) -> Any:
    if len(dtype) > 4 or dtype[1:2] not in _NUMERIC or len(numbers) > _MAX_ARRAY:
        raise ValueEncodingError("malformed array")
    try:
        import numpy as np
    except (ImportError, OSError):
        return _nested(shape, numbers)
    return np.array(numbers, dtype=dtype).reshape(shape)


def _nested(shape: list[int], numbers: list[Any]) -> Any:
    """An array as lists, where there is no numpy."""
    for size in reversed(shape[1:]):
        numbers = [numbers[start : start + size] for start in range(0, len(numbers), size or 1)]
    return numbers if shape else numbers[0]


def _path(kind: str, text: str) -> Any:
    if kind not in ("PosixPath", "PurePosixPath", "PureWindowsPath"):
        raise ValueEncodingError("no such kind of path")
    return getattr(pathlib, kind)(text)


def _factory_of(value: Any) -> list[Any] | None:
    factory = value.default_factory
    if factory is not None and _FACTORIES.get(getattr(factory, "__name__", "")) is not factory:
        return [None, dict(value)]
    return [factory and factory.__name__, dict(value)]


def _offset(value: datetime.timezone) -> list[Any]:
    return [value.utcoffset(None)]


_PARTS: dict[type, tuple[str, Callable[[Any], list[Any] | None]]] = {
    bytearray: ("bytearray", lambda value: [bytes(value)]),
    range: ("range", lambda value: [value.start, value.stop, value.step]),
    slice: ("slice", lambda value: [value.start, value.stop, value.step]),
    Fraction: ("Fraction", lambda value: [value.numerator, value.denominator]),
    Decimal: ("Decimal", lambda value: [str(value)]),
    uuid.UUID: ("UUID", lambda value: [value.hex]),
    datetime.date: ("date", lambda value: [value.isoformat()]),
    datetime.datetime: ("datetime", lambda value: [value.isoformat(), value.fold]),
    datetime.time: ("time", lambda value: [value.isoformat()]),
    datetime.timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    datetime.timezone: ("timezone", _offset),
    deque: ("deque", lambda value: [value.maxlen, list(value)]),
    Counter: ("Counter", lambda value: [dict(value)]),
    OrderedDict: ("OrderedDict", lambda value: [dict(value)]),
    defaultdict: ("defaultdict", _factory_of),
    type(...): ("ellipsis", lambda _: []),
    type(NotImplemented): ("NotImplemented", lambda _: []),
}
_BUILDERS: dict[str, Callable[..., Any]] = {
    "bytearray": lambda data: bytearray(bytes.join(b"", [data])),
    "range": range,
    "slice": slice,
    "Fraction": Fraction,
    "Decimal": Decimal,
    "UUID": lambda text: uuid.UUID(hex=text),
    "date": datetime.date.fromisoformat,
    "datetime": lambda text, fold: datetime.datetime.fromisoformat(text).replace(fold=fold),
    "time": datetime.time.fromisoformat,
    "timedelta": datetime.timedelta,
    "timezone": datetime.timezone,
    "deque": lambda bound, items: deque(items, bound),
    "Counter": Counter,
    "OrderedDict": OrderedDict,
    "defaultdict": lambda name, items: defaultdict(None if name is None else _FACTORIES[name], items),
    "ellipsis": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "array": _array,
    "path": _path,
}
TAGS = frozenset(_BUILDERS)
MUTABLE_TAGS = frozenset({"bytearray", "deque", "Counter", "OrderedDict", "defaultdict", "array"})
