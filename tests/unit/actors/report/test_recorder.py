"""A run folder from its start through a crash and a resume, on synthetic events."""

import json
from pathlib import Path

import pytest

from actors.events import Unresponsive
from actors.report.recorder import RunRecorder, reopened
from actors.report.summary import RunSummary, summarise
from tests.unit.actors.report.example_events import evaluation, info, learning_run, record, step, tick


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
