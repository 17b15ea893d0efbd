"""A run folder from its start through a crash and a resume, on synthetic events."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from actors.events import FirstSeen, Unresponsive
from actors.report.health import warnings
from actors.report.recorder import RunRecorder, reopened
from actors.report.summary import RunSummary, summarise
from tests.unit.actors.report.example_events import (
    evaluation,
    info,
    largest_file,
    learning_run,
    record,
    sample,
    step,
    tick,
)


def test_a_whole_run_leaves_every_file(tmp_path: Path) -> None:
    state = record(tmp_path, list(learning_run(20)))
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.jsonl",
        "samples.jsonl",
        "summary.json",
        "report.html",
        "tensorboard",
    }
    assert RunSummary.model_validate_json((tmp_path / "summary.json").read_text()) == summarise(state)


def test_a_resumed_run_continues_from_its_checkpoint(tmp_path: Path) -> None:
    events = [e for e in learning_run(20) if e.kind != "sample"]
    middle = next(i for i, e in enumerate(events) if e.kind == "step" and e.step == 15)
    record(tmp_path / "broken", events[: middle + 1])
    after_ten = next(i for i, e in enumerate(events) if e.kind == "step" and e.step == 11)
    state = record(tmp_path / "broken", events[after_ten:], resumed_at=10)
    whole = record(tmp_path / "whole", events)
    assert state.step == 20
    assert state.staleness == whole.staleness
    assert [p.value for p in state.statistics["reward"]] == [p.value for p in whole.statistics["reward"]]
    assert [e.name for e in state.evaluations] == [e.name for e in whole.evaluations]


def test_a_reopened_run_stands_at_its_checkpoint(tmp_path: Path) -> None:
    record(tmp_path, [evaluation("before", 0, 0.4), *(step(n) for n in range(1, 8)), evaluation("step 7", 7, 0.5)])
    state = reopened(info(tmp_path), 5)
    assert (state.step, state.version, state.trained_tokens) == (5, 5, 500)
    assert [done.name for done in state.evaluations] == ["before"]
    assert state.seconds == 14.0


def test_what_was_seen_first_stays_the_first_however_much_is_sampled_since(tmp_path: Path) -> None:
    first = FirstSeen(seconds=2.5, what="reflection", step=2, sample=sample(0.0, "Wait"))
    many = [sample(3.0, "x" * 100_000) for _ in range(12)]
    record(tmp_path, [step(1), first, *many, step(2)])
    again = first.model_copy(update={"step": 7})
    state = record(tmp_path, [again], resumed_at=2)
    assert state.firsts == {"reflection": first}


def test_tokens_and_time_go_on_counting_after_a_resume_and_hung_processes_are_forgotten(tmp_path: Path) -> None:
    silent = Unresponsive(seconds=5.0, role="generator", member="generator-1", state="silent", detail="for 21 s")
    before = [tick(float(n), generation=1000.0, busy=1.0) for n in range(1, 6)]
    record(tmp_path, [step(1), *before, silent, step(2)])
    state = record(tmp_path, [tick(7.0, generation=500.0, busy=0.0), step(2)], resumed_at=1)
    assert state.unresponsive == {}
    assert (state.generated, state.tick_seconds) == (5500.0, 6.0)
    assert state.busy_share("generator") == pytest.approx(5 / 6)
    assert state.step == 2


def test_summary_and_report_are_current_while_the_run_goes_on(tmp_path: Path) -> None:
    recorder = RunRecorder(info(tmp_path))
    recorder.record(step(1, seconds=1.0))
    recorder.record(step(2, seconds=40.0))
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 2
    assert (tmp_path / "report.html").exists()
    recorder.close()


def test_a_full_disk_ends_no_run_and_is_told_of_once(tmp_path: Path) -> None:
    recorder = RunRecorder(info(tmp_path))
    assert recorder.record(step(1, seconds=1.0)) == []
    with largest_file(10):
        (failed,) = recorder.record(step(2, seconds=2.0))
        assert (failed.what, failed.reason) == ("the record of the run", "File too large")
        assert [f.what for f in recorder.record(step(3, seconds=60.0))] == ["the report"]
        assert recorder.record(step(4, seconds=120.0)) == []
    assert recorder.record(step(5, seconds=180.0)) == []
    recorder.close()
    assert recorder.state.step == 5, "what is shown is right, whatever can be written"
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 5
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps[0] == 1 and steps[-1] == 5


def test_closing_on_a_full_disk_fails_nothing(tmp_path: Path) -> None:
    recorder = RunRecorder(info(tmp_path))
    recorder.record(step(1, seconds=1.0))
    with largest_file(10):
        recorder.close()


def test_a_lower_bound_on_staleness_says_nothing_of_what_was_trained_before(tmp_path: Path) -> None:
    record(tmp_path, [step(1, staleness={3: 10}), step(2, staleness={4: 10})])
    strict = replace(info(tmp_path), max_staleness=1)
    state = reopened(strict, 2)
    assert warnings(state) == []
    state.fold(step(3, staleness={1: 10}))
    assert warnings(state) == [] and state.staleness == {3: 10, 4: 10, 1: 10}
    state.fold(step(4, staleness={2: 1}))
    assert [warning.symptom for warning in warnings(state)] == ["staleness"]
