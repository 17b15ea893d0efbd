r"""What only names a value: a variable, a length, an area, a probability, the value of a function, a phrase."""

from __future__ import annotations

import re

from sandbox.mathematics.text import squeezed

_GREEK = (
    r"\\(?:[aA]lpha|[bB]eta|[gG]amma|[dD]elta|(?:var)?epsilon|[tT]heta|[lL]ambda|mu|nu|rho|[sS]igma|tau|(?:var)?[pP]hi"
    r"|[oO]mega|ell|pi)"
)
_INDEX = r"(?:_(?:\{[\w\\, +-]*\}|\w|\\[a-z]+))?"
_NAME = re.compile(
    rf"(?:m?\\(?:angle|triangle|Delta)\s*)?(?:[a-zA-Z]|[A-Z]{{2,5}}|{_GREEK})'*{_INDEX}'*(?:\([\w, ]*\))?"
    r"|\[[A-Z]{3,}\]|\|[A-Z]{2}\||\|?\\(?:overline|vec|overrightarrow|hat|bar)\{\w+\}\|?"
)
_PHRASE = re.compile(r"(?:[A-Za-z]{3,}|of|is|in|to|at|a)(?: (?:[A-Za-z]{2,}|a))*")


def is_name(text: str) -> bool:
    """Whether `text` names something: a variable, perhaps with an index or argument, and nothing to compute."""
    return _NAME.fullmatch(squeezed(text)) is not None or _PHRASE.fullmatch(text.strip()) is not None


def is_tuple_of_names(text: str) -> bool:
    """Whether `text` is `(x, y)`."""
    return len(names_in(text)) > 1


def names_in(text: str) -> list[str]:
    """The names in `(x, y)`, or none."""
    plain = squeezed(text)
    if not (plain.startswith("(") and plain.endswith(")")):
        return []
    names = plain[1:-1].split(",")
    return names if all(_NAME.fullmatch(name) for name in names) else []
