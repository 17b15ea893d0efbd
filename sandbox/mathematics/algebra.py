r"""Decides with sympy whether two expressions, equations or inequalities are equal. Only ever imported in a worker.

Nothing is taken for equal because it is near: what is rational is compared exactly, other constants to so many digits
that numbers as long as the written ones cannot agree by chance. Expressions with variables are equal if they are so at
`_POINTS` rational points, where each is computed in the same way; sums, integrals and limits are read by math-verify.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import math_verify
import sympy
from math_verify.parser import LatexExtractionConfig

from sandbox.mathematics import exact
from sandbox.mathematics.expression import (
    Call,
    Expression,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
)
from sandbox.mathematics.grammar import read
from sandbox.mathematics.scanner import UnreadableError
from sandbox.mathematics.text import split

_POINTS = 8
# At how many of them all digits are compared; at the others 9 are.
_CLOSELY = 2
_TRIES = 120
# Digits to which constants are compared: at least, and for each that is written.
_DIGITS, _DIGITS_EACH = 120, 3
_MAX_DIGITS = 2500
# Of expressions with variables; the powers of numbers have their own limits.
_MAX_DEGREE = 3000
_ROUNDED = re.compile(r"-?(\d*)\.(\d+)")
_ROUNDED_DIGITS = 15
_RELATION = re.compile(r"<|\\le(?![a-zA-Z])|\\ne(?![a-zA-Z])|=")
_INEQUALITY = re.compile(r"<|\\le(?![a-zA-Z])")
_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I}
# Of the letters that math-verify leaves as variables.
_ITS_CONSTANTS = {sympy.Symbol("e"): sympy.E, sympy.Symbol("i"): sympy.I, sympy.Symbol("i", real=False): sympy.I}
_INTEGERS = frozenset("nkmN")
_ALTERNATING = (sympy.sin, sympy.cos, sympy.tan)


def equal(expected: str, given: str) -> bool:
    """Whether two expressions, equations or inequalities are equal.

    Time is not limited here: the caller kills the process.
    """
    sides, other_sides = split(expected, _RELATION), split(given, _RELATION)
    if len(sides) != len(other_sides) or len(sides) > 2:
        return False
    try:
        if len(sides) == 2:
            first, second = (_parsed(left) - _parsed(right) for left, right in (sides, other_sides))
            directed = _INEQUALITY.search(expected) is not None
            return _proportional(first, second, directed=directed)
        if (rounded := _same_rounded(expected, given)) is not None:
            return rounded
        return _same(_parsed(expected), _parsed(given), _digits(expected + given))
    except (UnreadableError, exact.TooLargeError, exact.IrrationalError):
        return False


def _parsed(text: str) -> Any:
    try:
        expression = read(text)
        if exact.is_huge(expression):
            raise exact.TooLargeError
        return _sympy(expression)
    except UnreadableError:
        # Only the LaTeX grammar: math-verify's path for plain expressions ends in sympy's parse_expr, which evaluates.
        parsed = math_verify.parse(
            f"\\boxed{{{text}}}", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None
        )
        if not parsed or not isinstance(parsed[0], sympy.Expr):
            raise
        found = parsed[0].doit().subs(_ITS_CONSTANTS)
        return found.subs({symbol: sympy.Symbol(symbol.name, real=True) for symbol in found.free_symbols})


def _sympy(expression: Expression) -> Any:
    match expression:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Symbol(name):
            return _CONSTANTS.get(name) or sympy.Symbol(name, real=True)
        case Sum(terms):
            return sympy.Add(*map(_sympy, terms))
        case Product(factors):
            return sympy.Mul(*map(_sympy, factors))
        case Quotient(top, bottom):
            return _sympy(top) / _sympy(bottom)
        case Power(_, Number(value)) | Call("binomial", (_, Number(value))) if abs(value) > _MAX_DEGREE:
            number = exact.value(expression)
            return sympy.Rational(number.numerator, number.denominator)
        case Power(base, exponent):
            return _power(base, exponent)
        case Call("root", (radicand, index)):
            return _root(_sympy(radicand), _sympy(index))
        case Call(name, arguments):
            return _called(name, arguments)


def _power(base: Expression, exponent: Expression) -> Any:
    try:
        value = exact.value(Power(base, exponent))
        return sympy.Rational(value.numerator, value.denominator)
    except exact.IrrationalError:
        pass
    power = _sympy(exponent)
    if isinstance(power, sympy.Rational) and power.q != 1:
        return _root(_sympy(base), sympy.Integer(power.q)) ** power.p
    return _sympy(base) ** power


def _root(radicand: Any, index: Any) -> Any:
    """The real root where there is one: that of a negative number has an odd index."""
    if index.is_odd and radicand.is_real and not radicand.is_nonnegative:
        return sympy.sign(radicand) * sympy.Abs(radicand) ** (1 / index)
    return radicand ** (1 / index)


def _called(name: str, arguments: tuple[Expression, ...]) -> Any:
    if name in ("sin", "cos", "tan", "cot", "sec", "csc"):
        # Degrees are a number only as an angle.
        [argument] = arguments
        return _FUNCTIONS[name](_angle(argument))
    found = [_sympy(argument) for argument in arguments]
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](*found)
    if name == "degrees":
        raise UnreadableError("degrees")
    return sympy.Function(name)(*found)


def _angle(argument: Expression) -> Any:
    match argument:
        case Call("degrees", (angle,)):
            return _sympy(angle) * sympy.pi / 180
        case Product((first, Call("degrees", (angle,)))):
            return _sympy(first) * _sympy(angle) * sympy.pi / 180
        case Sum(terms):
            return sympy.Add(*map(_angle, terms))
    return _sympy(argument)


_FUNCTIONS: dict[str, Any] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "arccot": sympy.acot, "arcsec": sympy.asec,
    "arccsc": sympy.acsc, "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "coth": sympy.coth,
    "sech": sympy.sech, "csch": sympy.csch, "arcsinh": sympy.asinh, "arccosh": sympy.acosh, "arctanh": sympy.atanh,
    "ln": sympy.log, "log": sympy.log, "abs": sympy.Abs, "floor": sympy.floor, "ceiling": sympy.ceiling,
    "sgn": sympy.sign, "factorial": sympy.factorial, "binomial": sympy.binomial, "max": sympy.Max, "min": sympy.Min,
    "gcd": lambda *numbers: sympy.Function("gcd")(*sorted(numbers, key=str)),
    "lcm": lambda *numbers: sympy.Function("lcm")(*sorted(numbers, key=str)),
}  # fmt: skip


def _same_rounded(expected: str, given: str) -> bool | None:
    """Whether a number rounds to a decimal of at least 15 significant digits; None if there is no such decimal."""
    for decimal, other in ((expected, given), (given, expected)):
        match = _ROUNDED.fullmatch(decimal.strip())
        if match is None or len((match[1] + match[2]).lstrip("0")) < _ROUNDED_DIGITS:
            continue
        number = _parsed(other)
        if number.free_symbols or not number.is_real:
            return False
        half = sympy.Rational(1, 2 * 10 ** len(match[2]))
        distance = sympy.Abs(number - sympy.Rational(decimal.strip()))
        return bool(sympy.N(distance, 50) <= half)
    return None


def _digits(written: str) -> int:
    """How many digits decide about constants that were written so."""
    return min(_MAX_DIGITS, _DIGITS + _DIGITS_EACH * sum(char.isdigit() for char in written))


def _same(first: Any, second: Any, digits: int) -> bool:
    difference = first - second
    if difference == 0:
        return True
    if not difference.free_symbols:
        return _is_zero(difference, digits)
    return _identical(first, second, digits) or _identical_at_integers(first, second, digits)


def _is_zero(constant: Any, digits: int) -> bool:
    """Whether a constant is 0: exactly if it is rational, else to so many digits of its terms."""
    if constant.is_Rational:
        return bool(constant == 0)
    if constant.has(sympy.nan, sympy.zoo, sympy.oo):
        return False
    value = constant.evalf(2, maxn=digits)
    return all(part == 0 or (part.is_Float and part._prec == 1) for part in value.as_real_imag())


def _identical(first: Any, second: Any, digits: int) -> bool:
    """Whether two expressions have the same value wherever one of them has one."""
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    imaginary = first.has(sympy.I) or second.has(sympy.I)
    stepped = first.has(sympy.floor, sympy.ceiling) or second.has(sympy.floor, sympy.ceiling)
    counts = _counts(first) | _counts(second)
    compared = 0
    for point in _points(symbols, whole=stepped, counts=counts):
        one, other = (_value(side.xreplace(point)) for side in (first, second))
        if one is None and other is None:
            continue
        if one is None or other is None:
            return False
        real = [abs(sympy.im(side)) < 1e-9 for side in (one, other)]
        if not imaginary and not any(real):
            continue
        if real[0] != real[1] or abs(one - other) > 1e-9 * (1 + abs(one) + abs(other)):
            return False
        if compared < _CLOSELY and not _is_zero((first - second).xreplace(point), digits):
            return False
        compared += 1
        if compared == _POINTS:
            return True
    return False


def _identical_at_integers(first: Any, second: Any, digits: int) -> bool:
    r"""Whether expressions in letters for integers are the same there, such as `\cos(n\pi)` and `(-1)^n`."""
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    if not all(symbol.name in _INTEGERS for symbol in symbols) or not (first - second).has(*_ALTERNATING):
        return False
    points = ({symbol: sympy.Integer(at + step) for step, symbol in enumerate(symbols)} for at in range(1, 13))
    return all(_is_zero((first - second).xreplace(point), digits) for point in points)


def _counts(expression: Any) -> Any:
    """Letters that stand for natural numbers: those in factorials and binomial coefficients."""
    found: set[Any] = set()
    return found.union(*(call.free_symbols for call in expression.atoms(sympy.factorial, sympy.binomial)))


def _points(symbols: list[Any], *, whole: bool, counts: Iterable[Any] = ()) -> Iterator[dict[Any, Any]]:
    """Points that are the same in every check: positive, negative and of both signs, later also small and large ones.

    Args:
        symbols: what has a value there.
        whole: also integers.
        counts: symbols that have natural numbers for values alone.
    """
    chance = random.Random(20)
    for index in range(_TRIES):
        # Where an expression has no value at most of the first points, it may have one below 1 or far out.
        low, high = ((11, 199), (1, 36), (200, 1999))[3 * index // _TRIES]
        point = {}
        for symbol in symbols:
            integer = symbol in counts or (whole and index % 2)
            value = Fraction(chance.randint(1, 12)) if integer else Fraction(chance.randint(low, high), 37)
            negative = index % 4 == 2 or (index % 4 == 3 and chance.random() < 0.5)
            sign = -1 if negative and symbol not in counts else 1
            point[symbol] = sympy.Rational(value.numerator, value.denominator) * sign
        yield point


def _value(expression: Any) -> Any:
    """A number to 15 digits, or None where the expression has no value."""
    value = expression.evalf(15)
    return value if value.is_number and value.is_finite else None


def _proportional(wanted: Any, found: Any, *, directed: bool) -> bool:
    """Equations are the same if the difference of the sides of one is a constant multiple of that of the other.

    Of inequalities, which are directed, the multiple is positive.
    """
    symbols = sorted(wanted.free_symbols | found.free_symbols, key=str)
    if not symbols:
        return False
    for point in _points(symbols, whole=False):
        one, other = wanted.xreplace(point), found.xreplace(point)
        if _value(one) is None or _value(other) is None or _is_zero(other, _DIGITS):
            continue
        ratio = one / other
        if _is_zero(ratio, _DIGITS) or (directed and not ratio.is_positive):
            return False
        return _same(wanted, ratio * found, _DIGITS)
    return False
