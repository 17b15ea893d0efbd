"""The names of functions and symbols that an expression may hold, in LaTeX or as people type them."""

from __future__ import annotations

FUNCTIONS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc",
    "sinh", "cosh", "tanh", "coth", "sech", "csch", "arcsinh", "arccosh", "arctanh", "ln", "log", "lg", "exp",
    "sgn",
})  # fmt: skip
# What takes its arguments in brackets only.
SEVERAL = frozenset({"max", "min", "gcd", "lcm", "abs", "floor", "ceiling"})
INVERSES = {
    "sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec", "csc": "arccsc",
    "sinh": "arcsinh", "cosh": "arccosh", "tanh": "arctanh",
}  # fmt: skip
ALIASES = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "arsinh": "arcsinh", "arcosh": "arccosh", "artanh": "arctanh",
    "tg": "tan", "ceil": "ceiling", "ctg": "cot", "cosec": "csc", "arctg": "arctan",
}  # fmt: skip
_NAMES_BY_LENGTH = sorted({*FUNCTIONS, *SEVERAL, *ALIASES, "sqrt"}, key=len, reverse=True)
SYMBOLS = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota",
    "kappa", "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi",
    "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "infty",
    "ell", "hbar",
})  # fmt: skip
ACCENTS = frozenset({
    "vec", "hat", "bar", "tilde", "overline", "overrightarrow", "dot", "mathcal", "mathbb", "mathfrak",
})  # fmt: skip


def function_in(run: str) -> str | None:
    """The function that a run of letters is or begins with: `lnx` and `sinx` are typed often; longer runs are words."""
    return next((name for name in _NAMES_BY_LENGTH if run.startswith(name) and len(run) <= len(name) + 1), None)
