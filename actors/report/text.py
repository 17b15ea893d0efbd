"""Text that others wrote, made fit to be shown."""

import unicodedata
from collections.abc import Sequence


def visible(text: str) -> str:
    """`text` with every character that would be invisible or act on its neighbours written out.

    Among them are the bidirectional overrides, which make text read differently from what it is.
    """
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else f"⟨U+{ord(c):04X}⟩" for c in text
    )


def columns(rows: Sequence[Sequence[str]], right: int | None = None) -> list[str]:
    """Lines in which the cells of rows stand in columns, those from number `right` on at the right of theirs."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = ["<" if right is None or column < right else ">" for column in range(len(widths))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, aligned, widths, strict=True)).rstrip()
        for row in rows
    ]
