"""What benchmarks print fits the terminal."""

import pytest

from benchmarks import terminal


def test_a_long_line_is_broken_between_words_and_indented(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal.console, "_width", 20)
    terminal.say("one two three four five six", indent=2)
    assert capsys.readouterr().out == "  one two three four\n    five six\n"
