"""The outcome that is printed when a run has ended, on synthetic events."""

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from actors.events import EvaluationMissing
from actors.report.health import HealthWarning, warnings
from actors.report.outcome import print_outcome
from actors.report.summary import RunSummary, summarise
from tests.unit.actors.report.example_events import evaluation, learning_run, state_of, step


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
