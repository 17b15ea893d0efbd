"""Finds the final answer in a model's response."""

from __future__ import annotations

import re

_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?![\w])")
_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*(?:(?P<box>(?=\{))|\s(?P<bare>[^\s{}\\]+))|\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")


def answer_of(response: str, *, last_number: bool = False) -> str | None:
    r"""The final answer of a response, or None if it has none.

    The content of the last `<answer>…</answer>` counts (of a `\boxed{}` inside it, the last), otherwise the content of
    the last `\boxed{}`, otherwise, with `last_number`, the last number in the text. Only the last one ever counts, so
    naming several candidates gains nothing.
    """
    tagged = None
    for match in _ANSWER.finditer(response):
        tagged = match
    if tagged is not None:
        inside = tagged.group(1)
        boxed = last_boxed(inside)
        return (inside if boxed is None else boxed).strip()
    boxed = last_boxed(response)
    if boxed is not None:
        return boxed.strip()
    if last_number:
        numbers = _NUMBER.findall(response)
        if numbers:
            return str(numbers[-1])
    return None


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{…}` (or `\fbox{…}`, or `\boxed 7`) whose braces balance, or None.

    Of a box in a box the outer one counts. One pass with a stack: model text may hold thousands of unclosed boxes.
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
    if found is None:
        return None
    content = text[found[0] : found[1]]
    return _BOX.sub("", content) if text[found[0] - 1] == "{" else content.rstrip("$.,")
