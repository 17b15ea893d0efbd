"""Decides with math-verify and sympy whether two single expressions are equal. Only ever imported in a worker."""

from __future__ import annotations

from typing import Any

import math_verify
import sympy
from math_verify.parser import LatexExtractionConfig

_DIGITS = 30
_TOLERANCE = sympy.Float(10) ** -12
# The grammar reads i as a variable that is not real.
_CONSTANTS = {sympy.Symbol("e"): sympy.E, sympy.Symbol("i", real=False): sympy.I}


def equal(expected: str, given: str) -> bool:
    """Whether two LaTeX expressions, or two equations, are equal.

    Constants are compared numerically to 12 digits, so a rounded decimal equals neither a fraction nor π. Time is not
    limited here: the caller kills the process.
    """
    wanted, found = _parsed(expected), _parsed(given)
    if wanted is None or found is None:
        return False
    if isinstance(wanted, sympy.Equality) and isinstance(found, sympy.Equality):
        return _proportional(wanted, found)
    if isinstance(wanted, sympy.Expr) and isinstance(found, sympy.Expr):
        first, second = wanted.subs(_CONSTANTS), found.subs(_CONSTANTS)
        if not first.free_symbols and not second.free_symbols:
            return _same_constant(first, second)
        if first.free_symbols != second.free_symbols and not _cancels(first, second):
            return False
    return bool(math_verify.verify(wanted, found, timeout_seconds=None))


def _parsed(latex: str) -> Any:
    # Only the LaTeX grammar: math-verify's path for plain expressions ends in sympy's parse_expr, which evaluates.
    parsed = math_verify.parse(
        f"\\boxed{{{latex}}}", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None
    )
    return parsed[0] if parsed and not isinstance(parsed[0], str) else None


def _same_constant(first: sympy.Expr, second: sympy.Expr) -> bool:
    if first == second:
        return True
    difference = sympy.Abs(sympy.N(first - second, _DIGITS))
    size = 1 + sympy.Abs(sympy.N(first, _DIGITS))
    return bool(difference.is_number and size.is_finite and difference <= _TOLERANCE * size)


def _cancels(first: sympy.Expr, second: sympy.Expr) -> bool:
    return bool(sympy.simplify(first - second) == 0)


def _proportional(wanted: sympy.Equality, found: sympy.Equality) -> bool:
    """Equations are equivalent if the difference of the sides of one is a constant multiple of that of the other."""
    ratio = sympy.simplify((wanted.lhs - wanted.rhs) / (found.lhs - found.rhs))
    return bool(ratio.is_number and ratio.is_finite and ratio != 0)
