"""HTML that is safe by construction: text becomes markup only through `tag`, which escapes it.

Model output is hostile. Besides the five characters of HTML, control characters and the bidirectional overrides, which
make text read differently from what it is, are shown as what they are.
"""

import html
import unicodedata


class Html(str):
    """Markup that needs no escaping any more."""

    __slots__ = ()


def visible(text: str) -> str:
    """`text` with every character that would be invisible or act on its neighbours written out."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else f"⟨U+{ord(c):04X}⟩" for c in text
    )


def escape(text: object) -> Html:
    """`text` as markup that shows it."""
    return text if isinstance(text, Html) else Html(html.escape(visible(str(text))))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element. `class_` and `stroke_width` become `class` and `stroke-width`; attributes of None are left out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{shown}>{concat(*children)}</{name}>")


def concat(*children: object) -> Html:
    """Several pieces in a row, escaped where they are text."""
    return Html("".join(escape(child) for child in children))


def _attribute(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
