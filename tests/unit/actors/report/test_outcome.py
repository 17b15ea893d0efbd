"""The outcome that is printed when a run has ended, on synthetic events."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from actors.events import EvaluationMissing
from actors.report.display import Display
from actors.report.health import HealthWarning, warnings
from actors.report.outcome import print_outcome
from actors.report.state import RunState
from actors.report.summary import RunSummary, summarise
from tests.unit.actors.report.example_events import evaluation, info, learning_run, state_of, step


def outcome(
    summary: RunSummary,
    folder: Path = Path("runs/one"),
    found: Sequence[HealthWarning] = (),
    terminal: bool = False,
) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=terminal, color_system=None)
    print_outcome(console, summary, folder, found)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_the_outcome_names_results_and_files() -> None:
    lines = "\n".join(outcome(summarise(state_of(*learning_run()))))
    for text in (
        "42.0% -> 92.0%",
        "60 steps",
        "tokens/s",
        "learner 90%",
        "  4 ",
        "runs/one/report.html",
        "runs/one/summary.json",
    ):
        assert text in lines
    assert "scorer" not in lines, "the run had none"


def test_the_outcome_fits_80_columns() -> None:
    lines = outcome(summarise(state_of(*learning_run())), Path("runs/quickstart-2026-11-26-101112"))
    assert max(map(len, lines)) <= 80


def test_long_names_and_paths_are_neither_cut_nor_broken() -> None:
    state = state_of(*learning_run(5))
    name, folder = "a-recipe-" + "x" * 90, Path("/somewhere") / ("y" * 120)
    summary = summarise(state).model_copy(update={"recipe": name})
    for terminal in (False, True):
        lines = outcome(summary, folder, terminal=terminal)
        assert f"{name}, seed 7" in lines
        assert f"rollouts           {folder}/samples.jsonl" in lines


def test_a_warning_is_one_line_in_a_pipe_and_wrapped_between_words_on_a_terminal() -> None:
    state = state_of(*(step(n, entropy=0.0) for n in range(1, 9)))
    (warning,) = warnings(state)
    text = f"! {warning.text} {warning.fix}"
    assert outcome(summarise(state), found=[warning])[-1] == text
    wrapped = outcome(summarise(state), found=[warning], terminal=True)
    assert max(map(len, wrapped)) <= 80
    assert " ".join(wrapped).endswith(text)


def test_what_the_evaluations_lack_is_said() -> None:
    before = evaluation("before", 0, 0.5).model_copy(update={"left_out": {"infra_error": 1}})
    missing = EvaluationMissing(version=4, name="after", reason="waited 1800 s without progress")
    text = "\n".join(outcome(summarise(state_of(before, missing))))
    assert "before: 1 task left out (infra_error)" in text
    assert "after: no result: waited 1800 s without progress" in text


def test_the_outcome_of_an_interrupted_run() -> None:
    lines = "\n".join(outcome(summarise(state_of(evaluation("before", 0, 0.42)))))
    assert "42.0% -> –" in lines


# ---------------------------------------------------------------- where it is shown


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
