"""The exact value of a number that is rational, however it is written: powers, factorials and roots that come out.

No float and no tolerance, so that numbers that differ in their last digit differ; and no value is computed that has
more than `MAX_BITS` bits, so that no answer costs more than milliseconds.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from fractions import Fraction

from sandbox.mathematics.expression import Call, Expression, Number, Power, Product, Quotient, Sum, Symbol

MAX_BITS = 80_000
MAX_FACTORIAL = 10_000


class IrrationalError(ValueError):
    """No rational number, or none that can be had without an algebra system."""


class TooLargeError(ValueError):
    """A number with too many digits to compute with."""


def value(expression: Expression) -> Fraction:
    """The rational number that an expression is.

    Raises:
        IrrationalError: it is another number, has variables, or is not defined.
        TooLargeError: it has, on the way, more than `MAX_BITS` bits.
    """
    match expression:
        case Number(number):
            return number
        case Sum(terms):
            return _bounded(sum(map(value, terms), Fraction(0)))
        case Product(factors):
            product = Fraction(1)
            for factor in factors:
                product = _bounded(product * value(factor))
            return product
        case Quotient(top, bottom):
            divisor = value(bottom)
            if divisor == 0:
                raise IrrationalError("division by zero")
            return _bounded(value(top) / divisor)
        case Power(base, exponent):
            return _power(value(base), value(exponent))
        case Call("root", (radicand, index)):
            return _root(value(radicand), value(index))
        case Call(name, arguments) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(value, arguments))
    raise IrrationalError


def approximation(expression: Expression) -> float | None:
    r"""A real constant as a float, to put the ends of intervals in order; None if it is none (`\infty` is one)."""
    try:
        number = _approximate(expression)
    except (IrrationalError, TooLargeError, OverflowError, ValueError, ZeroDivisionError):
        return None
    return number.real if abs(number.imag) <= 1e-12 * abs(number) else None


def is_huge(expression: Expression) -> bool:
    """Whether an irrational constant is too large for any algebra system, such as a tower of powers of e."""
    try:
        match expression:
            case Power(base, exponent):
                return abs(_approximate(exponent) * cmath.log(_approximate(base))) > MAX_BITS
            case Sum(parts) | Product(parts) | Call(_, parts):
                return any(map(is_huge, parts))
            case Quotient(top, bottom):
                return is_huge(top) or is_huge(bottom)
    except OverflowError:
        return True
    except (ValueError, ZeroDivisionError):
        pass
    return False


def _approximate(expression: Expression) -> complex:
    match expression:
        case Symbol("pi"):
            return math.pi
        case Symbol("e"):
            return math.e
        case Symbol("infty"):
            return math.inf
        case Product((Number(number), Symbol("infty"))):
            return float(number) * math.inf
        case Sum(terms):
            return sum(map(_approximate, terms), 0j)
        case Product(factors):
            return math.prod(map(_approximate, factors), start=1 + 0j)
        case Quotient(top, bottom):
            return _approximate(top) / _approximate(bottom)
        case Power(base, exponent):
            return complex(_approximate(base) ** _approximate(exponent))
        case Call("root", (radicand, index)):
            inner = _approximate(radicand)
            odd = index.value % 2 == 1 if isinstance(index, Number) else False
            if odd and inner.real < 0 and inner.imag == 0:
                return complex(-((-inner.real) ** (1 / _approximate(index).real)))
            return complex(inner ** (1 / _approximate(index)))
        case Call("ln", (argument,)):
            return cmath.log(_approximate(argument))
        case Call("log", (argument, base)):
            return cmath.log(_approximate(argument)) / cmath.log(_approximate(base))
    return float(value(expression))


def _bounded(number: Fraction) -> Fraction:
    if number.numerator.bit_length() + number.denominator.bit_length() > MAX_BITS:
        raise TooLargeError
    return number


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        return _power(_root(base, Fraction(exponent.denominator)), Fraction(exponent.numerator))
    power = exponent.numerator
    if base in (0, 1, -1):
        if base == 0 and power <= 0:
            raise IrrationalError("not defined")
        return base ** (power if base == 0 else power % 2)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(power) > MAX_BITS or abs(power) * bits > 2 * MAX_BITS:
        raise TooLargeError
    return _bounded(base**power)


def _root(radicand: Fraction, index: Fraction) -> Fraction:
    """The real root, where it is rational: that of a negative number has an odd index."""
    if index.denominator != 1 or not 1 <= index <= 64 or (radicand < 0 and index % 2 == 0):
        raise IrrationalError("no rational root")
    degree = index.numerator
    top, bottom = _integer_root(abs(radicand.numerator), degree), _integer_root(radicand.denominator, degree)
    return Fraction(-top if radicand < 0 else top, bottom)


def _integer_root(number: int, degree: int) -> int:
    if degree == 2:
        root = math.isqrt(number)
    else:
        # Newton's method from above, which falls until it is there.
        root = 1 << -(-number.bit_length() // degree)
        while (lower := ((degree - 1) * root + number // root ** (degree - 1)) // degree) < root:
            root = lower
    if root**degree != number:
        raise IrrationalError("no rational root")
    return root


def _whole(number: Fraction, largest: int = MAX_BITS) -> int:
    if number.denominator != 1 or number < 0:
        raise IrrationalError("not defined")
    if number > largest:
        raise TooLargeError
    return number.numerator


def _factorial(number: Fraction) -> Fraction:
    return _bounded(Fraction(math.factorial(_whole(number, MAX_FACTORIAL))))


def _binomial(above: Fraction, below: Fraction) -> Fraction:
    return _bounded(Fraction(math.comb(_whole(above, MAX_FACTORIAL), _whole(below, MAX_FACTORIAL))))


def _integers(function: Callable[..., int]) -> Callable[..., Fraction]:
    return lambda *numbers: Fraction(function(*map(_any_integer, numbers)))


def _any_integer(number: Fraction) -> int:
    if number.denominator != 1:
        raise IrrationalError("not defined")
    return number.numerator


_FUNCTIONS: dict[str, Callable[..., Fraction]] = {
    "factorial": _factorial,
    "binomial": _binomial,
    "abs": abs,
    "floor": lambda number: Fraction(math.floor(number)),
    "ceiling": lambda number: Fraction(math.ceil(number)),
    "max": max,
    "min": min,
    "gcd": _integers(math.gcd),
    "lcm": _integers(math.lcm),
}
