"""A conversation with a model that says what it is told to say."""

import io
from collections.abc import Iterator, Sequence

import pytest
from rich.console import Console

from actors.chat.conversation import Conversation
from actors.tasks.task import Messages


class Scripted:
    """Says its lines, one an answer; an exception among the pieces is raised."""

    def __init__(self, answers: Sequence[Sequence[str | type[BaseException]]]) -> None:
        self._answers = list(answers)
        self.asked: list[Messages] = []
        self.stopped = 0

    def opens_thinking(self, messages: Messages) -> bool:  # noqa: ARG002
        return False

    def answer(self, messages: Messages) -> Iterator[str]:
        self.asked.append(messages)
        for piece in self._answers.pop(0):
            if not isinstance(piece, str):
                raise piece
            yield piece

    def stop(self) -> None:
        self.stopped += 1


def consoles(terminal: bool) -> tuple[Console, Console]:
    return (
        Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system="standard" if terminal else None),
        Console(file=io.StringIO(), force_terminal=False),
    )


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def reader(*lines: str | type[BaseException]):  # type: ignore[no-untyped-def]
    left = list(lines)

    def read() -> str:
        line = left.pop(0) if left else EOFError
        if not isinstance(line, str):
            raise line
        return line

    return read


def test_over_a_pipe_answers_and_thinking_part_and_each_line_stands_alone() -> None:
    speaker, (out, aside) = Scripted([["<think>one", "</think>1"], ["2\n", "lines"]]), consoles(terminal=False)
    Conversation(speaker, out, aside, remembers=False).read(["first\n", "\n", "second\n"])
    assert text(out) == "1\n2\nlines\n"
    assert text(aside) == "one"
    assert speaker.asked == [(("user", "first"),), (("user", "second"),)]


def test_in_a_terminal_thinking_is_shown_in_another_style() -> None:
    speaker, (out, aside) = Scripted([["<think>hm</think>", "4"]]), consoles(terminal=True)
    Conversation(speaker, out, aside, remembers=True).talk(reader("2 + 2?"))
    shown = text(out)
    assert "\x1b[2;3mhm" in shown
    assert "\x1b[2;3m4" not in shown
    assert text(aside) == ""


def test_it_remembers_answers_without_their_thinking() -> None:
    speaker, (out, aside) = Scripted([["<think>hm</think> 4"], ["5"]]), consoles(terminal=True)
    Conversation(speaker, out, aside, remembers=True).talk(reader("a", "  ", "b"))
    assert speaker.asked[1] == (("user", "a"), ("assistant", "4"), ("user", "b"))


def test_an_interrupt_ends_the_answer_and_at_the_prompt_the_chat() -> None:
    speaker, (out, aside) = Scripted([["begun", KeyboardInterrupt], ["whole"]]), consoles(terminal=True)
    talk = Conversation(speaker, out, aside, remembers=True)
    with pytest.raises(KeyboardInterrupt):
        talk.talk(reader("a", "b", KeyboardInterrupt))
    assert speaker.stopped == 1
    assert "whole" in text(out)
    assert speaker.asked[1] == (("user", "b"),)  # an answer that was ended was not said


def test_markup_of_a_model_is_text() -> None:
    speaker, (out, aside) = Scripted([["[red]x[/red] :smile:"]]), consoles(terminal=False)
    Conversation(speaker, out, aside, remembers=False).read(["p"])
    assert text(out) == "[red]x[/red] :smile:\n"
