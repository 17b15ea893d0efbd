"""Streams that cannot show everything, or nothing any more."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from actors.report.display import Display
from actors.report.outcome import print_outcome
from actors.report.state import RunState
from actors.report.summary import summarise
from sandbox.terminal import Terminal, lasting
from tests.unit.actors.report.example_events import info, learning_run


class Broken(io.StringIO):
    """A stream that fails after its first characters, as a pipe whose reader has gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.writes = error, 0

    def write(self, text: str) -> int:
        self.writes += 1
        if self.writes > 1:
            raise self.error
        return super().write(text)


def shown(console: Console) -> None:
    state = RunState(info())
    with Display(state, console) as display:
        for event in learning_run(5):
            display(event)
    print_outcome(console, summarise(state), Path("runs/one"))


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_run_is_shown_in_every_encoding(encoding: str, terminal: bool) -> None:
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding=encoding)
    shown(Console(file=stream, width=80, force_terminal=terminal))
    text = file.getvalue().decode(encoding)
    assert "42.0% -> " in text
    assert ("█" in text) == (encoding == "utf-8")
    assert ("#" in text) == (encoding != "utf-8")


def test_what_an_encoding_lacks_keeps_its_width() -> None:
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding="ascii", write_through=True)
    Terminal(stream).write("█▎ – é 中…")
    assert file.getvalue() == b"#  - ? ?."


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device"), OSError(5, "I/O error")]
)
@pytest.mark.parametrize("terminal", [True, False])
def test_a_stream_that_goes_away_ends_nothing(error: Exception, terminal: bool) -> None:
    file = Broken(error)
    shown(Console(file=file, width=80, force_terminal=terminal))
    assert file.writes == 2


def test_a_stream_that_was_closed_ends_nothing() -> None:
    file = io.StringIO()
    file.close()
    shown(Console(file=file, width=80, force_terminal=False))


def test_nothing_is_left_for_the_end_of_the_process_to_fail_on() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        lasting(Console(file=stream)).print("text")
        stream.write("more")


@pytest.mark.parametrize("width", [1, 40])
def test_a_terminal_that_is_too_narrow_gets_lines(width: int) -> None:
    file = io.StringIO()
    shown(Console(file=file, width=width, force_terminal=True, color_system=None))
    assert "step 5/60" in file.getvalue()
    assert "\x1b" not in file.getvalue()


def test_the_outcome_in_a_file_has_no_trailing_spaces() -> None:
    file = io.StringIO()
    shown(Console(file=file, width=80))
    assert [line for line in file.getvalue().splitlines() if line != line.rstrip()] == []
