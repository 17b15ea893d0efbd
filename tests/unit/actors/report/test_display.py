"""What a terminal and a log show of a run, on synthetic events."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from actors.events import Event, Restart
from actors.report.display import Display, page, spark
from actors.report.health import HealthWarning, warnings
from actors.report.outcome import print_outcome
from actors.report.state import RunState
from actors.report.summary import RunSummary, summarise
from actors.report.units import duration, number, percent, size
from tests.unit.actors.report.example_events import evaluation, info, learning_run, step, tick


def drawn(renderable: object, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=False)
    console.print(renderable)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def outcome(summary: RunSummary, folder: Path = Path("runs/one"), found: Sequence[HealthWarning] = ()) -> list[str]:
    file = io.StringIO()
    print_outcome(Console(file=file, width=80, force_terminal=False), summary, folder, found)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def state_of(events: list[Event], max_staleness: int = 4) -> RunState:
    state = RunState(info(max_staleness=max_staleness))
    for event in events:
        state.fold(event)
    return state


def log_of(events: list[Event]) -> list[str]:
    file = io.StringIO()
    with Display(RunState(info()), Console(file=file, width=80, force_terminal=False)) as display:
        for event in events:
            display(event.model_dump(mode="json"))
    return file.getvalue().splitlines()


def test_the_page_shows_what_matters() -> None:
    lines = "\n".join(drawn(page(state_of(list(learning_run())[:-3]))))
    for text in ("step 60 of 60", "42% -> 88%", "entropy", "bound 4", "generator", "groups to verify", "ready 5"):
        assert text in lines


@pytest.mark.parametrize("max_staleness", [0, 4, 64])
def test_the_page_fits_a_terminal_of_80_by_24_even_with_all_warnings(max_staleness: int) -> None:
    collapse: list[Event] = [
        step(n, staleness={n: 5}, reward=1 / n, entropy=0.0, mixed_groups=0.0, response_length_mean=90.0 / n)
        for n in range(1, 30)
    ]
    state = state_of(
        [*learning_run(5), *collapse, tick(99.0, issued=10**7, dropped={f"reason {i}": 10**6 for i in range(9)})],
        max_staleness,
    )
    assert len(warnings(state)) > 3
    lines = drawn(page(state), 200)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_a_page_of_a_run_that_has_not_begun() -> None:
    assert len(drawn(page(state_of([])))) <= 24


def test_a_log_has_one_plain_line_a_step() -> None:
    lines = log_of(list(learning_run(20)))
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 20
    assert "\x1b" not in "".join(lines)
    assert "held-out before: pass@1 42.0%, maj@4 47.0% of 256 tasks" in lines
    assert "reward" in steps[-1] and "held-out 42% -> " in steps[-1] and "staleness <= 4" in steps[-1]
    assert lines[-1] == "finished"


def test_a_warning_is_logged_when_it_appears_and_not_again() -> None:
    lines = log_of([step(n, entropy=0.0001) for n in range(1, 20)])
    assert len([line for line in lines if line.startswith("warning: Entropy")]) == 1


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    lines = log_of([Restart(seconds=1, role="generator", member="g", reason="\x1b]0;title\x07[red]")])
    assert lines == ["restarted g: ⟨U+001B⟩]0;title⟨U+0007⟩[red]"]


def test_a_terminal_gets_a_live_page() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, height=24, force_terminal=True)
    with Display(RunState(info()), console) as display:
        for event in learning_run(5):
            display(event)
    assert "step 5 of 60" in file.getvalue()


def test_the_outcome_names_results_and_files() -> None:
    lines = "\n".join(outcome(summarise(state_of(list(learning_run())))))
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


def test_the_outcome_of_an_interrupted_run() -> None:
    lines = "\n".join(outcome(summarise(state_of([evaluation("before", 0, 0.42)]))))
    assert "42.0% -> –" in lines


def test_numbers_read_well() -> None:
    assert [duration(s) for s in (None, 0.0123, 3.44, 59.97, 125, 4320)] == [
        "–", "12 ms", "3.4 s", "1 min 00 s", "2 min 05 s", "1 h 12 min",
    ]  # fmt: skip
    assert [number(x) for x in (None, 0, 0.12345, 0.00001, 7, 812.4, 15234, 2.5e6)] == [
        "–", "0", "0.123", "1.0e-05", "7", "812", "15.2 k", "2.5 M",
    ]  # fmt: skip
    assert [size(b) for b in (None, 512, 3_600_000)] == ["–", "512 B", "3.6 MB"]
    assert percent(0.4249) == "42%"


def test_sparks_span_from_low_to_high() -> None:
    assert spark([0.0, 0.5, 1.0]) == "▁▅█"
    assert spark([2.0, 2.0]) == "▄▄"
