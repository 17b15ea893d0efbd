"""Values between a program and its tests, with what plain values lose: identity, changes of arguments, iterators.

Beyond the encoding of `sandbox.jail.values`:

    list, dict, set, bytearray   numbered in the order in which they first occur in one call and its reply
    one that occurred before     ["@", number]
    bytearray                    ["a", "hex"]
    range, Fraction, Decimal     ["r", start, stop, step], ["q", numerator, denominator], ["n", "text"]
    date, datetime               ["D", "text"], ["T", "text"]
    iterator, deque              ["g", ended, item, …], ["e", limit, item, …]
    views of a dictionary        ["K", key, …], ["V", value, …], ["I", key, value, …]

Both sides number alike, so a reply names the caller's own objects. Nothing here calls a method of a hostile class: what
arrives is built from exact builtin and standard types.
"""

from __future__ import annotations

import datetime
import json
import time
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sandbox.jail import values
from sandbox.jail.values import MAX_DEPTH, ValueEncodingError

# Of an iterator that may be endless: so many items, and more while they come fast.
_ITEMS, _MAX_ITEMS, _ITEM_SECONDS = 2000, 50_000, 0.5
_MUTABLE = (list, dict, set, bytearray)
_VIEWS = {type({}.keys()): "K", type({}.values()): "V", type({}.items()): "I"}


class Serializer:
    """Encodes and decodes one call and its reply, on either side; numbers the objects in it."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def encode(self, value: Any) -> str:
        """One line of JSON.

        Raises:
            ValueEncodingError: something in it has no encoding.
        """
        return json.dumps(self._encode(value, MAX_DEPTH), separators=(",", ":"))

    def decode(self, text: str | bytes) -> Any:
        """The value of one line.

        Raises:
            ValueEncodingError: it is not an encoding.
        """
        return self._decode(values.load(text), MAX_DEPTH)

    def _number(self, value: Any) -> None:
        self._numbers[id(value)] = len(self.objects)
        self.objects.append(value)

    def _encode(self, value: Any, depth: int) -> Any:
        if depth <= 0:
            raise ValueEncodingError("nested too deeply")
        kind = type(value)
        if kind in _MUTABLE:
            if id(value) in self._numbers:
                return ["@", self._numbers[id(value)]]
            self._number(value)
        if kind is bytearray:
            return ["a", value.hex()]
        if kind in _TAGS:
            parts = [part for pair in value.items() for part in pair] if kind is dict else value
            return [_TAGS[kind], *[self._encode(part, depth - 1) for part in parts]]
        if kind in values.SCALARS:
            return values.encode_node(value)
        return self._encode_other(value, kind, depth)

    def _encode_other(self, value: Any, kind: type, depth: int) -> Any:
        if kind is range:
            return ["r", *[values.encode_node(part) for part in (value.start, value.stop, value.step)]]
        if kind is Fraction:
            return ["q", values.encode_node(value.numerator), values.encode_node(value.denominator)]
        if kind is Decimal:
            return ["n", str(value)]
        if kind in (datetime.date, datetime.datetime):
            return ["D" if kind is datetime.date else "T", value.isoformat()]
        if kind in _VIEWS:
            items = [part for pair in value for part in pair] if _VIEWS[kind] == "I" else value
            return [_VIEWS[kind], *[self._encode(item, depth - 1) for item in items]]
        if kind is deque:
            return ["e", value.maxlen, *[self._encode(item, depth - 1) for item in value]]
        if hasattr(kind, "__next__"):
            items, ended = _consumed(value)
            return ["g", ended, *[self._encode(item, depth - 1) for item in items]]
        # A container made here is numbered like any other, and so lives as long as this serializer.
        return self._encode(values.builtin_base(value), depth)

    def _decode(self, node: Any, depth: int) -> Any:
        if depth <= 0:
            raise ValueEncodingError("nested too deeply")
        if type(node) is not list or not node:
            return values.decode_node(node)
        tag, items = node[0], node[1:]
        if tag == "@":
            if len(items) != 1 or type(items[0]) is not int or not 0 <= items[0] < len(self.objects):
                raise ValueEncodingError("reference to nothing")
            return self.objects[items[0]]
        if tag in ("i", "f", "b", "c"):
            return values.scalar(tag, items)
        try:
            return self._decode_container(tag, items, depth)
        except (ValueError, TypeError, ArithmeticError, AttributeError):
            raise ValueEncodingError(f"malformed value tagged {str(tag)[:20]!r}") from None

    def _decode_container(self, tag: str, items: list[Any], depth: int) -> Any:
        if tag in ("l", "d", "s", "a"):
            made: Any = {"l": list, "d": dict, "s": set, "a": bytearray}[tag]()
            self._number(made)
            if tag == "a":
                made.extend(bytes.fromhex(items[0]))
                return made
            parts = [self._decode(item, depth - 1) for item in items]
            if tag == "l":
                made.extend(parts)
            else:
                made.update(zip(parts[::2], parts[1::2], strict=True) if tag == "d" else parts)
            return made
        if tag in ("n", "D", "T"):
            kind: Any = {"n": Decimal, "D": datetime.date.fromisoformat, "T": datetime.datetime.fromisoformat}[tag]
            return kind(items[0])
        if tag == "g":
            return _iterator([self._decode(item, depth - 1) for item in items[1:]], items[0] is True)
        parts = [self._decode(item, depth - 1) for item in items]
        return _BUILDERS[tag](parts) if tag in _BUILDERS else values.refuse_tag(tag)


def snapshots(objects: list[Any]) -> list[Any]:
    """Shallow copies, to find out later which objects have changed."""
    return [one.copy() for one in objects]


def changes(objects: list[Any], before: list[Any]) -> list[tuple[int, Any]]:
    """Number and content of every object that no longer holds what its copy holds."""
    pairs = enumerate(zip(objects, before, strict=False))
    return [(number, now.copy()) for number, (now, old) in pairs if _differ(now, old)]


def apply(objects: list[Any], changed: list[tuple[int, Any]]) -> None:
    """Give the numbered objects their new content.

    Raises:
        ValueEncodingError: one is of another type.
    """
    for number, content in changed:
        if type(number) is not int or not 0 <= number < len(objects):
            raise ValueEncodingError("an argument that is none has changed")
        target = objects[number]
        if type(target) is not type(content):
            raise ValueEncodingError("an argument changed its type")
        if type(target) in (list, bytearray):
            target[:] = content
        else:
            target.clear()
            target.update(content)


def _differ(now: Any, old: Any) -> bool:
    if len(now) != len(old):
        return True
    if type(now) is dict:
        return any(a is not b or now[a] is not old[b] for a, b in zip(now, old, strict=True))
    if type(now) is list:
        return any(a is not b for a, b in zip(now, old, strict=True))
    return bool(now != old)


def _consumed(iterator: Iterator[Any]) -> tuple[list[Any], bool]:
    items: list[Any] = []
    until = time.monotonic() + _ITEM_SECONDS
    for item in iterator:
        items.append(item)
        if len(items) >= _MAX_ITEMS or (len(items) >= _ITEMS and time.monotonic() > until):
            return items, False
    return items, True


def _iterator(items: list[Any], ended: bool) -> Iterator[Any]:
    yield from items
    if not ended:
        raise RuntimeError("the iterator of the program under test has more items, but only the first were sent")


def _pairs(parts: list[Any]) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


_TAGS: dict[type, str] = {list: "l", tuple: "t", dict: "d", set: "s", frozenset: "z"}
_BUILDERS: dict[str, Any] = {
    "t": tuple,
    "z": frozenset,
    "r": lambda parts: range(*parts),
    "q": lambda parts: Fraction(*parts),
    "e": lambda parts: deque(parts[1:], parts[0]),
    "K": lambda parts: dict.fromkeys(parts).keys(),
    "V": lambda parts: dict(enumerate(parts)).values(),
    "I": lambda parts: _pairs(parts).items(),
}
