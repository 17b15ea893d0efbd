"""Mathematical answers: text to structure, structure against structure, and only single expressions to sympy."""

from __future__ import annotations

from sandbox.mathematics.comparison import NeedsAlgebraError, matches

__all__ = ["NeedsAlgebraError", "matches"]
