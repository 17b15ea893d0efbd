"""What a terminal and a log show of a run, on synthetic events."""

import io
from collections.abc import Iterable
from typing import Literal

import pytest
from rich.console import Console

from actors.events import EvaluationDone, EvaluationMissing, Event, Phase, Restart, Unresponsive, WriteFailed
from actors.report.display import Display, page, spark
from actors.report.health import warnings
from actors.report.state import RunState
from tests.unit.actors.report.example_events import info, learning_run, reward_model, state_of, step, tick

SILENCE: list[tuple[float, Literal["silent", "back"], str]] = [
    (30.0, "silent", "not heard of for 21 s"),
    (40.0, "back", "heard of again"),
]


def drawn(renderable: object, width: int = 80) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=24, force_terminal=False).print(renderable)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def log_of(events: Iterable[Event]) -> list[str]:
    file = io.StringIO()
    with Display(RunState(info()), Console(file=file, width=80, force_terminal=False)) as display:
        for event in events:
            display(event.model_dump(mode="json"))
    return file.getvalue().splitlines()


def test_the_page_shows_what_matters() -> None:
    lines = "\n".join(drawn(page(state_of(*list(learning_run())[:-3]))))
    for text in ("step 60 of 60", "42% -> 88%", "entropy", "bound 4", "generator", "groups to verify", "ready 5"):
        assert text in lines


@pytest.mark.parametrize("max_staleness", [0, 4, 64])
def test_the_page_fits_a_terminal_of_80_by_24_even_with_all_warnings(max_staleness: int) -> None:
    collapse: list[Event] = [
        step(n, staleness={n: 5}, reward=1 / n, entropy=0.0, mixed_groups=0.0, response_length_mean=90.0 / n)
        for n in range(1, 30)
    ]
    last = tick(99.0, issued=10**7, dropped={f"reason {i}": 10**6 for i in range(9)})
    state = state_of(*learning_run(5), *collapse, last, max_staleness=max_staleness)
    assert len(warnings(state)) > 3
    lines = drawn(page(state), 200)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_a_page_of_a_run_that_has_not_begun() -> None:
    assert len(drawn(page(state_of()))) <= 24


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


def test_a_run_that_has_not_taken_a_step_warns_too() -> None:
    """Ticks alone show that every group is dropped, or that nobody works."""
    ticks = [tick(float(n), issued=20 * n, dropped={"zero_variance": 20 * n}) for n in range(1, 60)]
    lines = [line for line in log_of([Phase(name="training"), *ticks]) if line.startswith("warning: ")]
    assert len(lines) == 1
    assert "zero_variance" in lines[0] and "tasks.sources" in lines[0]


def test_who_falls_silent_and_who_is_back_is_a_line_of_a_log() -> None:
    events = [
        Unresponsive(seconds=s, role="verifier", member="verifier-2", state=state, detail=detail)
        for s, state, detail in SILENCE
    ]
    lines = log_of(events)
    assert lines[0] == "verifier-2 is silent: not heard of for 21 s"
    assert lines[1].startswith("warning: ") and "verifier-2" in lines[1] and "controller.hang_seconds" in lines[1]
    assert lines[2:] == ["verifier-2 is back: heard of again"]


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    lines = log_of([Restart(seconds=1, role="generator", member="g", reason="\x1b]0;title\x07[red]")])
    assert lines == ["restarted g: ⟨U+001B⟩]0;title⟨U+0007⟩[red]"]


def test_an_event_is_one_line_of_a_log_however_long_it_is() -> None:
    reason = "RayActorError: the worker died\n  " + "its node ran out of memory " * 9
    lines = log_of([Restart(seconds=1, role="generator", member="generator-0", reason=reason)])
    assert len(lines) == 1
    assert "worker died its node ran" in lines[0] and len(lines[0]) > 200


def test_new_warnings_are_logged_gravest_first() -> None:
    bad = [step(n, staleness={9: 1}, entropy=0.0, truncated_fraction=1.0) for n in range(1, 6)]
    lines = [line for line in log_of(bad) if line.startswith("warning: ")]
    assert [line.split()[1] for line in lines] == ["Tokens", "Entropy", "100%"]


def test_a_checkpoint_that_could_not_be_written_is_said_at_once_and_so_is_its_end() -> None:
    full, written = (WriteFailed(what="checkpoints", reason=reason) for reason in ("step-000040: full", ""))
    lines = log_of([step(1), full, full, written])
    said, over = (line for line in lines if "checkpoints" in line)
    assert said.startswith("warning: Could not write checkpoints: step-000040: full. Make room in runs/synthetic,")
    assert over == "checkpoints can be written again"


def test_a_reward_model_is_one_line_of_a_log() -> None:
    done = reward_model(0.9375)
    line = "reward model: 93.8% of 64 held-out pairs in the right order, margin 1.5 nats, after 120 steps"
    assert log_of([done])[0] == line


def test_what_an_evaluation_lacks_is_said() -> None:
    done = EvaluationDone(
        version=1, name="after", pass_at_1=0.5, n=6, left_out={"overlong": 2}, version_min=1, version_max=1
    )
    missing = EvaluationMissing(version=1, name="step 2", reason="none of the 8 held-out tasks\ncould be scored")
    assert log_of([done]) == ["held-out after: pass@1 50.0% of 6 tasks, 2 left out (overlong)"]
    assert log_of([missing]) == ["held-out step 2: no result: none of the 8 held-out tasks could be scored"]


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO()
    with Display(RunState(info()), Console(file=file, width=80, force_terminal=True)) as display:
        display(step(1))
    assert file.getvalue().startswith("step 1/60")


def test_a_terminal_gets_a_live_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    file = io.StringIO()
    console = Console(file=file, width=80, height=24, force_terminal=True)
    with Display(RunState(info()), console) as display:
        for event in learning_run(5):
            display(event)
    assert "step 5 of 60" in file.getvalue()


def test_sparks_span_from_low_to_high() -> None:
    assert spark([0.0, 0.5, 1.0]) == "▁▅█"
    assert spark([2.0, 2.0]) == "▄▄"
