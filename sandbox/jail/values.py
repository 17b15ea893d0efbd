"""Values between processes: a typed encoding of exact builtin types in JSON; no pickle, bounded in every direction.

    None, bool, str          themselves
    int                      itself up to 2**53, otherwise ["i", "-0x…"]
    float                    ["f", repr]
    list, tuple              ["l", …], ["t", …]
    set, frozenset           ["s", …], ["z", …]
    dict                     ["d", key, value, key, value, …]
    bytes                    ["b", "hex"]
    complex                  ["c", repr of real, repr of imaginary]

What a model's function returns is encoded in the process that ran it. Subclasses are encoded by the value of their
builtin base (a `Counter` is a dict), so no method of a hostile class survives the crossing.
"""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100
MAX_INTEGER_BITS = 1 << 20
MAX_NODES = 2_000_000

SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})

_SMALL = 1 << 53


class ValueEncodingError(ValueError):
    """A value that has no encoding, or an encoding that has no value."""


def encode(value: Any) -> str:
    """One line of JSON.

    Raises:
        ValueEncodingError: another type, nested deeper than `MAX_DEPTH`, or a larger integer than `MAX_INTEGER_BITS`.
    """
    return _ENCODER.encode(_encode(value, MAX_DEPTH))


def decode(text: str | bytes) -> Any:
    """The value of one encoding. Hostile keys can make this slow: the judge uses `matches` instead.

    Raises:
        ValueEncodingError: it is not one.
    """
    return _decode(load(text), MAX_DEPTH)


def load(text: str | bytes) -> Any:
    """The tree of an encoding, checked for depth and size but not yet a value.

    Raises:
        ValueEncodingError: it is not JSON, or too deep or too large.
    """
    if not isinstance(text, str | bytes):
        raise ValueEncodingError("an encoding is text")
    try:
        tree = _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise ValueEncodingError(f"not an encoding: {error}"[:200]) from None
    _measure(tree)
    return tree


def _small_integer(digits: str) -> int:
    if len(digits) > 17:
        raise ValueEncodingError("integers beyond 2**53 are written in hexadecimal")
    return int(digits)


def _refuse(text: str) -> Any:
    raise ValueEncodingError(f"bare number {text[:20]}")


_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_int=_small_integer, parse_float=_refuse, parse_constant=_refuse)


def _measure(tree: Any) -> None:
    nodes, level, depth = 0, [tree], 0
    while level:
        nodes += len(level)
        depth += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH + 2:
            raise ValueEncodingError("too many values" if nodes > MAX_NODES else "nested too deeply")
        level = [item for node in level if type(node) is list for item in node]


def encode_node(value: Any) -> Any:
    """The tree of a value's encoding.

    Raises:
        ValueEncodingError: as `encode`.
    """
    return _encode(value, MAX_DEPTH)


def decode_node(node: Any) -> Any:
    """The value of a tree.

    Raises:
        ValueEncodingError: as `decode`.
    """
    return _decode(node, MAX_DEPTH)


def refuse_tag(tag: Any) -> Any:
    """Refuse a tag that means nothing.

    Raises:
        ValueEncodingError: always.
    """
    raise ValueEncodingError(f"no value is tagged {str(tag)[:20]!r}, or a key of it cannot be hashed")


def _encode(value: Any, depth: int) -> Any:
    if depth <= 0:
        raise ValueEncodingError("nested too deeply")
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return value
    if kind is int:
        return _encode_int(value)
    if kind is float:
        return ["f", float.__repr__(value)]
    if kind is list or kind is tuple:
        return ["l" if kind is list else "t", *[_encode(item, depth - 1) for item in value]]
    if kind is dict:
        return ["d", *[_encode(part, depth - 1) for pair in value.items() for part in pair]]
    if kind is set or kind is frozenset:
        return ["s" if kind is set else "z", *[_encode(item, depth - 1) for item in value]]
    if kind is bytes:
        return ["b", value.hex()]
    if kind is complex:
        return ["c", repr(value.real), repr(value.imag)]
    return _encode(builtin_base(value), depth)


def _encode_int(value: int) -> Any:
    if -_SMALL <= value <= _SMALL:
        return value
    if value.bit_length() > MAX_INTEGER_BITS:
        raise ValueEncodingError("integer too large")
    return ["i", hex(value)]


def builtin_base(value: Any) -> Any:
    """The builtin value inside an instance of a subclass, read past any method the subclass overrides."""
    if isinstance(value, int):
        return int.__add__(value, 0)
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    if isinstance(value, str):
        return str.__str__(value) if type(str.__str__(value)) is str else "".join(list(str.__iter__(value)))
    if isinstance(value, list):
        return list(list.__iter__(value))
    if isinstance(value, tuple):
        return tuple(tuple.__iter__(value))
    if isinstance(value, dict):
        return dict(list(dict.items(value)))
    if isinstance(value, set):
        return set(set.__iter__(value))
    if isinstance(value, frozenset):
        return frozenset(frozenset.__iter__(value))
    if isinstance(value, bytearray):
        return bytes(bytearray.__getitem__(value, slice(None)))
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        plain = value.tolist()
        if type(plain).__module__ == "builtins":
            return plain
    raise ValueEncodingError(f"a {type(value).__name__} is not a plain value")


def _decode(node: Any, depth: int) -> Any:
    if depth <= 0:
        raise ValueEncodingError("nested too deeply")
    if node is None or type(node) in (bool, str, int):
        return node
    if type(node) is not list or not node or type(node[0]) is not str:
        raise ValueEncodingError("not a tagged value")
    tag, items = node[0], node[1:]
    if tag in ("i", "f", "b", "c"):
        return scalar(tag, items)
    values = [_decode(item, depth - 1) for item in items]
    try:
        if tag == "d" and len(values) % 2 == 0:
            return dict(zip(values[::2], values[1::2], strict=True))
        return {"l": list, "t": tuple, "s": set, "z": frozenset}[tag](values)
    except (KeyError, TypeError):
        return refuse_tag(tag)


def scalar(tag: str, items: list[Any]) -> int | float | bytes | complex:
    """The value of a tagged scalar.

    Raises:
        ValueEncodingError: it is malformed.
    """
    if len(items) != (2 if tag == "c" else 1) or not all(type(item) is str for item in items):
        raise ValueEncodingError("malformed scalar")
    text = items[0]
    try:
        if tag == "i":
            if len(text) > MAX_INTEGER_BITS // 4 + 3 or not text.removeprefix("-").startswith("0x"):
                raise ValueEncodingError("malformed integer")
            return int(text, 16)
        if tag == "f":
            return _float(text)
        if tag == "b":
            return bytes.fromhex(text)
        return complex(_float(text), _float(items[1]))
    except (ValueError, OverflowError):
        raise ValueEncodingError("malformed scalar") from None


def _float(text: str) -> float:
    if len(text) > 40 or not text.isascii() or "_" in text:
        raise ValueEncodingError("malformed float")
    return float(text)
