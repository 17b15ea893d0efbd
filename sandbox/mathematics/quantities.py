r"""One value with what belongs to it: `12\%`, `5 million`, `\$5`, `3\frac12 hours`."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from fractions import Fraction

from sandbox.mathematics import exact, units
from sandbox.mathematics.expression import Expression
from sandbox.mathematics.grammar import read
from sandbox.mathematics.names import is_name
from sandbox.mathematics.scanner import UnreadableError
from sandbox.mathematics.text import clean
from sandbox.numbers import parse_number

MAX_CHARS = 400

_ZEROS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MULTIPLE = re.compile(rf"(.*\d) ({'|'.join(_ZEROS)})\b ?(.*)")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value: `core` times `factor`, in a unit.

    Attributes:
        core: the expression without percent sign, unit and words such as million.
        factor: what these make of it.
        unit: the unit, if there is one.
    """

    core: str
    factor: Fraction
    unit: units.Unit | None


def quantity(text: str, *, bare: bool = False) -> Quantity:
    """The parts of one value that went through `clean`; `bare` says whether single letters may be units."""
    if text.endswith("%"):
        return Quantity(text.removesuffix("%").removesuffix("\\").rstrip(), Fraction(1, 100), None)
    if (multiple := _MULTIPLE.fullmatch(text)) is not None:
        found = quantity(f"{multiple[1]} {multiple[3]}".strip(), bare=bare)
        return Quantity(found.core, found.factor * 10 ** _ZEROS[multiple[2]], found.unit)
    if (total := units.summed(text)) is not None:
        return Quantity(total[0], Fraction(1), total[1])
    core, unit = units.split(text, bare=bare)
    return Quantity(core.rstrip(" ~"), Fraction(1), unit)


def tree(core: str) -> Expression | None:
    """The expression, or None if the grammar does not know it."""
    try:
        return _read(core)
    except UnreadableError:
        return None


@functools.lru_cache(maxsize=256)
def _read(core: str) -> Expression:
    return read(core)


def number(text: str) -> Fraction | None:
    """The exact value of a number with everything that people write around one: mark-up, currency, unit, name."""
    value = parse_number(text)
    if value is not None or len(text) > MAX_CHARS:
        return value
    plain = clean(text)
    name, equals, right = plain.rpartition("=")
    if equals and is_name(name):
        plain = right.strip()
    found = quantity(plain, bare=True)
    value = parse_number(found.core)
    if value is None and (expression := tree(found.core)) is not None:
        try:
            value = exact.value(expression)
        except (exact.IrrationalError, exact.TooLargeError):
            return None
    return None if value is None else value * found.factor
