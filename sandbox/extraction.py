"""Finds the final answer in a model's response."""

from __future__ import annotations

import re

_OPENED, _CLOSED = "<answer>", "</answer>"
_DIGITS = r"(?>\d{1,3}(?:(?:,|\{,\}|,?\\[,!])\d{3})+(?!\d)|\d+)"
_NUMERAL = rf"(?>{_DIGITS}(?:\.\d+)?(?:[eE][-+]?\d{{1,3}}(?!\w))?|\.\d+)"
# The last number may be a fraction, a power or a time, of which a part is another number; an ordinal is none at all.
_NUMBER = re.compile(
    rf"(?P<number>\\[dt]?frac\{{\d+\}}\{{\d+\}}|(?<![\w.])[-+−]?(?:\d+\s)?{_NUMERAL}/{_NUMERAL}(?![/\d])"
    rf"|(?<![\w.])[-+−]?(?>{_NUMERAL}(?:[/:^]{_NUMERAL})*))(?!\.\d|(?:st|nd|rd|th)\b)"
    r"|(?P<part>[\^_]\s*\{?\s*-?\d+|\\(?:sqrt|[dt]?frac|[dt]?binom)\b[^{}]{0,9}\{[^{}]*\})"
)
_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*(?:(?P<box>(?=\{))|\s(?P<bare>[^\s{}\\]+))|\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_BOX_CUT_OFF = re.compile(r"\\(?:boxed|fbox)\s*\Z")


class CutOffError(ValueError):
    """The last answer was begun and not finished."""


def answer_of(response: str, *, last_number: bool = False) -> str | None:
    r"""The final answer of a response, or None if it has none.

    The content of the last `<answer>…</answer>` counts (of a `\boxed{}` inside it, the last), otherwise the content of
    the last `\boxed{}`, otherwise, with `last_number`, the last number in the text. Only the last one ever counts, so
    naming several candidates gains nothing; and if the last one was cut off, there is none.
    """
    try:
        tagged = _last_tagged(response)
        boxed = _last_box(response if tagged is None else tagged)
    except CutOffError:
        return None
    if boxed is not None or tagged is not None:
        return (boxed if boxed is not None else tagged or "").strip()
    return _last_number(response) if last_number else None


def _last_tagged(response: str) -> str | None:
    """The content of the last `<answer>…</answer>`.

    Raises:
        CutOffError: a later one was begun.
    """
    opened, closed = response.rfind(_OPENED), response.rfind(_CLOSED)
    if opened < 0:
        return None
    if closed < opened:
        raise CutOffError
    start = opened + len(_OPENED)
    return response[start : response.find(_CLOSED, start)]


def _last_number(response: str) -> str | None:
    found = None
    for match in _NUMBER.finditer(response):
        found = match["number"]
    return found


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{…}` (or `\fbox{…}`, or `\boxed 7`); None if there is none, or it was cut off."""
    try:
        return _last_box(text)
    except CutOffError:
        return None


def _last_box(text: str) -> str | None:
    """The content of the last box.

    Of a box in a box the outer one counts. One pass with a stack: model text may hold thousands of unclosed boxes.

    Raises:
        CutOffError: the box that was begun last has no end.
    """
    found: tuple[int, int] | None = None
    opened: list[tuple[int, bool]] = []
    box_at = -1
    for token in _TOKEN.finditer(text):
        if token.group() == "{":
            opened.append((token.end(), token.start() == box_at))
        elif token.group() == "}":
            start, boxed = opened.pop() if opened else (0, False)
            found = (start, token.start()) if boxed else found
        elif token["box"] is not None:
            box_at = token.end()
        elif token["bare"] is not None:
            found = token.span("bare")
    unfinished = max((start for start, boxed in opened if boxed), default=-1)
    if unfinished > (found[0] if found else -1) or _BOX_CUT_OFF.search(text):
        raise CutOffError
    if found is None:
        return None
    content = text[found[0] : found[1]]
    return _BOX.sub("", content) if text[found[0] - 1] == "{" else content.rstrip("$.,")
