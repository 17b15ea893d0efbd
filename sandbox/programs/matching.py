"""Compares what a program produced with what was expected. Runs outside, on encoded values and text only."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from sandbox.jail import values
from sandbox.jail.values import ValueEncodingError

DEFAULT_TOLERANCE = 1e-6
_ROUNDING = 1e-15

_DECIMAL = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")


def value_matches(expected: Any, encoding: bytes | str, tolerance: float = DEFAULT_TOLERANCE) -> bool:
    """Whether the encoded value equals `expected`.

    Integers, text and truth values must be equal and of the same type; numbers of which one is a float may differ by
    `tolerance`, absolute or relative; tuples equal lists, because expected values often come from JSON. NaN equals
    nothing. The walk follows `expected`, so hostile values can neither recurse nor collide in a hash table.
    """
    try:
        return _matches(expected, values.load(encoding), tolerance)
    except ValueEncodingError:
        return False


def _matches(expected: Any, node: Any, tolerance: float) -> bool:
    if expected is None or isinstance(expected, bool | str):
        return type(node) is type(expected) and bool(node == expected)
    if isinstance(expected, int | float):
        return _number_matches(expected, node, tolerance)
    if type(node) is not list or not node:
        return False
    tag, items = node[0], node[1:]
    if isinstance(expected, list | tuple):
        return (
            tag in ("l", "t")
            and len(items) == len(expected)
            and all(_matches(wanted, item, tolerance) for wanted, item in zip(expected, items, strict=True))
        )
    if isinstance(expected, dict):
        return tag == "d" and _mapping_matches(expected, items, tolerance)
    if isinstance(expected, set | frozenset):
        canonical = {values.encode(item) for item in expected}
        return tag in ("s", "z") and len(items) == len(canonical) and {_canonical(item) for item in items} == canonical
    if isinstance(expected, bytes | complex) and tag in ("b", "c"):
        return values.scalar(tag, items) == expected
    return False


def _number_matches(expected: float, node: Any, tolerance: float) -> bool:
    if type(node) is int:
        value: Any = node
    elif type(node) is list and len(node) == 2 and node[0] in ("i", "f"):
        value = values.scalar(node[0], node[1:])
    else:
        return False
    if isinstance(expected, int) and isinstance(value, int):
        return expected == value
    # A relative tolerance would take 1e9 for 1000000007: whole numbers only differ by what a float rounds off.
    relative = min(tolerance, _ROUNDING) if isinstance(expected, int) else tolerance
    try:
        return math.isclose(expected, value, rel_tol=relative, abs_tol=tolerance)
    except OverflowError:
        return False


def _mapping_matches(expected: dict[Any, Any], items: list[Any], tolerance: float) -> bool:
    if len(items) != 2 * len(expected):
        return False
    # Keyed by encoded text, whose hashes a program cannot predict.
    found = {_canonical(_key(key, expected)): value for key, value in zip(items[::2], items[1::2], strict=True)}
    return len(found) == len(expected) and all(
        (encoded := values.encode(key)) in found and _matches(wanted, found[encoded], tolerance)
        for key, wanted in expected.items()
    )


def _key(node: Any, expected: dict[Any, Any]) -> Any:
    """A key as expected values that were read from JSON spell it: there all keys are text."""
    if type(node) is int and node not in expected and str(node) in expected:
        return str(node)
    return node


def _canonical(node: Any) -> str:
    return json.dumps(node, separators=(",", ":"))


def output_matches(expected: bytes, output: bytes, tolerance: float = DEFAULT_TOLERANCE) -> bool:
    """Whether a program's output equals the expected one as competitive programming compares them.

    White space separates tokens and otherwise does not count. Tokens must be equal; where the expected token is written
    as a decimal with a point or exponent, a decimal within `tolerance`, absolute or relative, is equal too.
    """
    wanted, given = expected.split(), output.split()
    return len(wanted) == len(given) and all(
        one == other or _decimal_matches(one, other, tolerance) for one, other in zip(wanted, given, strict=True)
    )


def _decimal_matches(wanted: bytes, given: bytes, tolerance: float) -> bool:
    if not (b"." in wanted or b"e" in wanted.lower()) or len(given) > 400:
        return False
    if _DECIMAL.fullmatch(wanted) is None or _DECIMAL.fullmatch(given) is None:
        return False
    return math.isclose(float(wanted), float(given), rel_tol=tolerance, abs_tol=tolerance)
