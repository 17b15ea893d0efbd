r"""The expressions that the grammar reads: a small tree that says what was written and computes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Number:
    """An integer or a decimal, exactly as written."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Symbol:
    r"""A letter or a command that stands for something, with its index and primes: `x`, `\pi`, `a_{n-1}`, `y'`."""

    name: str


@dataclass(frozen=True, slots=True)
class Sum:
    """What is added up."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """What is multiplied."""

    factors: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Quotient:
    """A fraction."""

    top: Expression
    bottom: Expression


@dataclass(frozen=True, slots=True)
class Power:
    """A base and its exponent."""

    base: Expression
    exponent: Expression


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments; a root is `root(radicand, index)` and a logarithm `log(argument, base)`."""

    name: str
    arguments: tuple[Expression, ...]


Expression = Number | Symbol | Sum | Product | Quotient | Power | Call
MINUS_ONE = Number(Fraction(-1))


def negated(expression: Expression) -> Expression:
    """Minus the expression."""
    if isinstance(expression, Number):
        return Number(-expression.value)
    return Product((MINUS_ONE, expression))
