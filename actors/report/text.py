"""Text that others wrote, made fit to be shown."""

import unicodedata


def visible(text: str) -> str:
    """`text` with every character that would be invisible or act on its neighbours written out.

    Among them are the bidirectional overrides, which make text read differently from what it is.
    """
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else f"⟨U+{ord(c):04X}⟩" for c in text
    )
