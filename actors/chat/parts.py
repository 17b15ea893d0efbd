"""What a model streams, told apart: its thinking and its answer."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from actors.report.text import visible

THINK, END = "<think>", "</think>"


class Part(NamedTuple):
    """A piece of an answer, fit to be shown: no character of it can command a terminal."""

    kind: Literal["thinking", "answer"]
    text: str


class Parts:
    """Splits a stream at its tags, wherever the pieces that it comes in are cut.

    Args:
        thinking: whether the prompt has opened the thinking already.
    """

    def __init__(self, thinking: bool = False) -> None:
        self._thinking, self._held = thinking, ""

    def feed(self, text: str) -> Iterator[Part]:
        """The parts that are known with one more piece of the stream; the beginning of a tag is held back."""
        self._held += text
        while (at := self._held.find(tag := END if self._thinking else THINK)) >= 0:
            yield from self._part(self._held[:at])
            self._held, self._thinking = self._held[at + len(tag) :], not self._thinking
        known = len(self._held) - _begun(self._held, tag)
        yield from self._part(self._held[:known])
        self._held = self._held[known:]

    def end(self) -> Iterator[Part]:
        """What was held back."""
        yield from self._part(self._held)
        self._held = ""

    def _part(self, text: str) -> Iterator[Part]:
        if text:
            yield Part("thinking" if self._thinking else "answer", visible(text))


def _begun(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)
