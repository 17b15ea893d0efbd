"""Thinking and answer, told apart in a stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.chat.parts import Parts


def split(pieces: list[str], thinking: bool = False) -> list[tuple[str, str]]:
    parts = Parts(thinking)
    found: list[tuple[str, str]] = []
    for kind, text in [part for piece in pieces for part in parts.feed(piece)] + list(parts.end()):
        if found and found[-1][0] == kind:
            found[-1] = kind, found[-1][1] + text
        else:
            found.append((kind, text))
    return found


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        ("<think>so</think>4", False, [("thinking", "so"), ("answer", "4")]),
        ("so</think>4", True, [("thinking", "so"), ("answer", "4")]),
        ("4", False, [("answer", "4")]),
        ("a < b <thin", False, [("answer", "a < b <thin")]),
        ("<think>never ends", False, [("thinking", "never ends")]),
        ("a<think>b</think>c<think>d", False, [("answer", "a"), ("thinking", "b"), ("answer", "c"), ("thinking", "d")]),
    ],
)
def test_however_it_is_cut(text: str, thinking: bool, expected: list[tuple[str, str]]) -> None:
    assert split([text], thinking) == expected
    assert split(list(text), thinking) == expected


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "think", ">", "x", "</"]), max_size=12), st.data())
def test_cuts_change_nothing_and_nothing_is_lost(words: list[str], data: st.DataObject) -> None:
    text = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(pieces) == split([text])


def test_no_character_can_command_a_terminal() -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\r\u202e<think>\x9b31m</think>\x00"
    shown = "".join(text for _, text in split(list(hostile)))
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e" for c in shown)
    assert "⟨U+001B⟩" in shown
