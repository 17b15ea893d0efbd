"""Compares a given answer with the expected one, part by part; single expressions go to an algebra system."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from sandbox.mathematics.structure import (
    Answer,
    Bracketed,
    Equation,
    Interval,
    Many,
    Matrix,
    Region,
    Scalar,
    Words,
    as_region,
    is_name,
    parse,
)
from sandbox.mathematics.text import MAX_CHARS, MAX_NESTING, clean, nesting, squeezed
from sandbox.numbers import parse_number

MAX_ITEMS = 64

_QUANTITY = re.compile(
    r"(.*?\S)\s+((?:square |cubic |sq\.? ?|cu\.? ?)?[a-zA-Zµ]+(?:/[a-zA-Z]+)?\.?(?:\s*\^\s*\{?\d\}?)?)"
)
_UNITS = {
    "cm", "mm", "m", "km", "in", "inch", "inches", "ft", "foot", "feet", "yd", "yard", "mile", "mi", "meter", "metre",
    "centimeter", "kilometer", "s", "sec", "second", "min", "minute", "h", "hr", "hour", "day", "week", "month", "year",
    "kg", "g", "gram", "mg", "kilogram", "lb", "pound", "oz", "ounce", "dollar", "cent", "usd", "euro", "degree", "deg",
    "unit", "l", "liter", "litre", "ml", "gallon", "n", "newton", "j", "joule", "w", "watt", "pa", "hz", "v", "volt",
    "mph", "km/h", "m/s", "ft/s", "rad", "radian", "people", "student", "apple", "way", "point", "percent", "mol", "k",
}  # fmt: skip
# Unit: the unit it is counted in, and how many of those it is.
_SCALES = {
    "mm": ("m", Fraction(1, 1000)),
    "cm": ("m", Fraction(1, 100)),
    "km": ("m", Fraction(1000)),
    "meter": ("m", Fraction(1)),
    "mg": ("g", Fraction(1, 1000)),
    "kg": ("g", Fraction(1000)),
    "gram": ("g", Fraction(1)),
    "ml": ("l", Fraction(1, 1000)),
    "liter": ("l", Fraction(1)),
    "sec": ("s", Fraction(1)),
    "second": ("s", Fraction(1)),
    "min": ("s", Fraction(60)),
    "minute": ("s", Fraction(60)),
    "h": ("s", Fraction(3600)),
    "hour": ("s", Fraction(3600)),
    "cent": ("dollar", Fraction(1, 100)),
}
_SCIENTIFIC = re.compile(r"([+-]?[\d.]+)(?:\\times|\\cdot|\*)10\^(?:\{([+-]?\d{1,3})\}|(\d))")
_BASED = re.compile(r"([0-9][0-9a-zA-Z]*)_\{?(\d+)\}?")
_LONG_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}")
_FUNCTIONS = {"sqrt", "frac", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "binom"}

Algebra = Callable[[str, str], bool]


class NeedsAlgebraError(Exception):
    """Text and numbers alone do not decide; an algebra system has to be asked."""


def undecided(expected: str, given: str) -> bool:
    """An algebra that never answers, for deciding what can be decided without one."""
    raise NeedsAlgebraError(f"{expected} against {given}")


def matches(expected: str, given: str, algebra: Algebra = undecided) -> bool:
    """Whether `given` is the same answer as `expected`.

    Only the whole answer counts: a list, range or chain of equations that contains the expected value is another one.

    Args:
        expected: the right answer, in LaTeX or plain text.
        given: the model's.
        algebra: decides whether two single expressions (or equations) are equal.

    Raises:
        NeedsAlgebraError: `algebra` was not given and is needed.
    """
    if len(given) > MAX_CHARS or nesting(given) > MAX_NESTING:
        return False
    wanted, found = clean(expected), clean(given)
    if not found:
        return not wanted
    if squeezed(wanted) == squeezed(found):
        return True
    return _same(parse(wanted), parse(found), algebra)


def _same(wanted: Answer, found: Answer, algebra: Algebra) -> bool:
    if isinstance(wanted, Equation) or isinstance(found, Equation):
        return _same_equation(wanted, found, algebra)
    if isinstance(wanted, Words) or isinstance(found, Words):
        return isinstance(wanted, Words) and isinstance(found, Words) and wanted.text.lower() == found.text.lower()
    if isinstance(wanted, Matrix) or isinstance(found, Matrix):
        return isinstance(wanted, Matrix) and isinstance(found, Matrix) and _same_matrix(wanted, found, algebra)
    if isinstance(wanted, Region) or isinstance(found, Region):
        first, second = as_region(wanted), as_region(found)
        return first is not None and second is not None and _same_region(first, second, algebra)
    if isinstance(wanted, Bracketed) and isinstance(found, Bracketed):
        brackets = (wanted.opening, wanted.closing) == (found.opening, found.closing)
        return brackets and _same_items(wanted.items, found.items, algebra)
    if isinstance(wanted, Bracketed | Many) and isinstance(found, Bracketed | Many):
        if isinstance(wanted, Many) and isinstance(found, Many):
            return _same_unordered(wanted.items, found.items, algebra)
        return _same_items(wanted.items, found.items, algebra)
    if isinstance(wanted, Many) and len(wanted.items) == 1:
        return _same(wanted.items[0], found, algebra)
    if isinstance(found, Many) and len(found.items) == 1:
        return _same(wanted, found.items[0], algebra)
    if isinstance(wanted, Scalar) and isinstance(found, Scalar):
        return _same_scalar(wanted.text, found.text, algebra)
    return False


def _same_equation(wanted: Answer, found: Answer, algebra: Algebra) -> bool:
    """`x = 2` is 2 if only the name was added or left out; `42 = 42` is no answer to 42."""
    if isinstance(wanted, Equation) and isinstance(found, Equation):
        if "=" in wanted.right or "=" in found.right:
            return False
        if squeezed(wanted.left) == squeezed(found.left):
            return _same(parse(wanted.right), parse(found.right), algebra)
        return algebra(f"{wanted.left}={wanted.right}", f"{found.left}={found.right}")
    equation, other = (wanted, found) if isinstance(wanted, Equation) else (found, wanted)
    assert isinstance(equation, Equation)
    if not is_name(equation.left) or "=" in equation.right:
        return False
    side = parse(equation.right)
    return _same(side, other, algebra) if equation is wanted else _same(other, side, algebra)


def _same_items(wanted: tuple[Answer, ...], found: tuple[Answer, ...], algebra: Algebra) -> bool:
    return len(wanted) == len(found) and all(
        _same(one, other, algebra) for one, other in zip(wanted, found, strict=True)
    )


def _same_unordered(wanted: tuple[Answer, ...], found: tuple[Answer, ...], algebra: Algebra) -> bool:
    if len(wanted) != len(found) or len(wanted) > MAX_ITEMS:
        return False
    left = list(found)
    for one in wanted:
        match = next((other for other in left if _same(one, other, algebra)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_matrix(wanted: Matrix, found: Matrix, algebra: Algebra) -> bool:
    return len(wanted.rows) == len(found.rows) and all(
        _same_items(one, other, algebra) for one, other in zip(wanted.rows, found.rows, strict=True)
    )


def _same_region(wanted: Region, found: Region, algebra: Algebra) -> bool:
    if len(wanted.intervals) != len(found.intervals) or len(wanted.intervals) > MAX_ITEMS:
        return False
    left = list(found.intervals)
    for one in wanted.intervals:
        match = next((other for other in left if _same_interval(one, other, algebra)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_interval(wanted: Interval, found: Interval, algebra: Algebra) -> bool:
    return (
        (wanted.low_closed, wanted.high_closed) == (found.low_closed, found.high_closed)
        and _same_scalar(wanted.low, found.low, algebra)
        and _same_scalar(wanted.high, found.high, algebra)
    )


def _same_scalar(wanted: str, found: str, algebra: Algebra) -> bool:
    if (based := _same_based(wanted, found)) is not None:
        return based
    wanted, wanted_unit = _quantity(wanted)
    found, found_unit = _quantity(found)
    if squeezed(wanted).removeprefix("+") == squeezed(found).removeprefix("+") and wanted_unit == found_unit:
        return True
    scale = _scale(wanted_unit, found_unit)
    if scale is None:
        return False
    first, second = _number(wanted), _number(found)
    if first is not None and second is not None:
        return first == second * scale
    if scale != 1 or "\\infty" in wanted or "\\infty" in found:
        return scale == 1 and squeezed(wanted).removeprefix("+") == squeezed(found).removeprefix("+")
    if _is_prose(found, wanted):
        return False
    return algebra(wanted, found)


def _same_based(wanted: str, found: str) -> bool | None:
    """Whether numerals with a base, such as `52_8`, are the same; None if there are none.

    A given base that the expected answer has not is another number; one that is left out is taken as meant.
    """
    first, second = _BASED.fullmatch(squeezed(wanted)), _BASED.fullmatch(squeezed(found))
    if second is None:
        return None if first is None else squeezed(found).lower() == first[1].lower()
    return first is not None and (first[1].lower(), first[2]) == (second[1].lower(), second[2])


def _quantity(text: str) -> tuple[str, str]:
    """The text without its unit, and the unit in its one spelling ("" if there is none)."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return text, ""
    unit = squeezed(match.group(2).lower()).rstrip(".")
    base = re.sub(r"\^\{?\d\}?$", "", unit)
    base = re.sub(r"^(square|cubic|sq\.?|cu\.?)", "", base)
    if base not in _UNITS and base.removesuffix("s") not in _UNITS:
        return text, ""
    power = {"sq": "^2", "cu": "^3"}.get(unit[:2], "")
    power = power or "".join(f"^{digit}" for digit in re.findall(r"\^\{?(\d)\}?$", unit))
    singular = base if (base in _UNITS and not base.endswith("s")) or base == "s" else base.removesuffix("s")
    return match.group(1), singular + power


def _scale(wanted: str, found: str) -> Fraction | None:
    """What to multiply the found number by to compare it; None if the units do not fit. No unit fits every unit."""
    if wanted == found:
        return Fraction(1)
    if found == "percent":
        return Fraction(1, 100) if wanted == "" else None
    if wanted == "percent":
        return Fraction(100) if found == "" else None
    if not wanted or not found:
        return Fraction(1)
    first, second = _SCALES.get(wanted, (wanted, Fraction(1))), _SCALES.get(found, (found, Fraction(1)))
    return second[1] / first[1] if first[0] == second[0] else None


def _number(text: str) -> Fraction | None:
    plain = squeezed(text)
    scientific = _SCIENTIFIC.fullmatch(plain)
    if scientific is not None:
        plain = f"{scientific[1]}e{scientific[2] or scientific[3]}"
    return parse_number(text) if scientific is None else parse_number(plain)


def _is_prose(found: str, wanted: str) -> bool:
    """Whether an answer holds words that the expected one does not: prose is not an expression."""
    words = {word.lower() for word in _LONG_WORD.findall(found)}
    return bool(words - {word.lower() for word in _LONG_WORD.findall(wanted)} - _FUNCTIONS)
