"""Where a reader stands in its text, and what comes next there."""

from __future__ import annotations

import re

_SPACE = re.compile(r"\s*")


class UnreadableError(ValueError):
    """Not an expression that this grammar knows, or an ambiguous one."""


class Scanner:
    """A text and a place in it; white space means nothing."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def _skip(self) -> int:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        return match.end()

    def _peek(self) -> str:
        """The next character that is no space, where the reader then stands; "" at the end."""
        self._at = self._skip()
        return self._text[self._at : self._at + 1]

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._skip())
        if match is not None:
            self._at = match.end()
        return match

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        match = self._match(pattern)
        return None if match is None else match.group()

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._skip()):
            raise UnreadableError(f"{text} is missing")
        self._at = self._skip() + len(text)
