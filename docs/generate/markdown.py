"""Markdown as GitHub reads it."""

import re
from collections.abc import Iterable

#: Stands at the top of every page that is generated.
MADE = "Made from the code by `python -m docs.generate`; change it there."


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; bars and line breaks in its cells are escaped."""
    names = list(head)
    return "\n".join(_row(cells) for cells in (names, ["---"] * len(names), *rows))


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(line(cell).replace("|", "\\|") for cell in cells) + " |"


def line(text: str | None) -> str:
    """A text without its line breaks."""
    return " ".join((text or "").split())


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
