"""The files of a run, their resume after a crash, and the report, on synthetic events."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from actors.errors import RunError
from actors.events import Event
from actors.report.health import warnings
from actors.report.html import render
from actors.report.recorder import RunRecorder, reopened
from actors.report.state import RunState
from actors.report.summary import RunSummary, summarise
from actors.report.writer import RunFolder, write_atomically
from tests.unit.actors.report.example_events import HOSTILE, evaluation, info, learning_run, sample, step, tick


def record(folder: Path, events: list[Event], resumed_at: int | None = None) -> RunState:
    with RunRecorder(info(folder), resumed_at=resumed_at) as recorder:
        for event in events:
            recorder.record(event)
    return recorder.state


def kinds(folder: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(events: list[Event]) -> Page:
    state = RunState(info())
    for event in events:
        state.fold(event)
    page = Page(render(state))
    assert page.open == []
    return page


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(step(1, reward=0.5))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["statistics"] == {"reward": 0.5}
    folder.close()


def test_ticks_are_merged_and_none_is_lost(tmp_path: Path) -> None:
    state = record(tmp_path, [tick(float(i), 1.0) for i in range(1, 26)])
    assert kinds(tmp_path) == ["tick"] * 3
    assert reopened(info(tmp_path), 0).generated == pytest.approx(state.generated)


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


def test_a_torn_last_line_is_dropped_and_overwritten(tmp_path: Path) -> None:
    record(tmp_path, [step(1), step(2)])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"seconds": 6.0, "kind": "st')
    state = record(tmp_path, [step(3)], resumed_at=2)
    assert kinds(tmp_path) == ["step"] * 3
    assert state.trained_tokens == 300


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    record(tmp_path, [step(1)])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + "nonsense\n" + path.read_text())
    with pytest.raises(RunError, match="line 2 is no event"):
        reopened(info(tmp_path), 1)


def test_summary_and_report_are_current_while_the_run_goes_on(tmp_path: Path) -> None:
    recorder = RunRecorder(info(tmp_path))
    recorder.record(step(1, seconds=1.0))
    recorder.record(step(2, seconds=40.0))
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 2
    assert (tmp_path / "report.html").exists()
    recorder.close()


def test_replacing_a_file_leaves_no_draft(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "one")
    write_atomically(tmp_path / "a", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "two"


def test_tensorboard_hides_the_steps_that_were_lost(tmp_path: Path) -> None:
    record(tmp_path, [step(n, reward=0.1) for n in range(1, 6)])
    record(tmp_path, [step(n, reward=0.9) for n in range(4, 7)], resumed_at=3)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "training"))
    events.Reload()
    assert {e.step: round(e.value, 1) for e in events.Scalars("train/reward")} == {
        1: 0.1, 2: 0.1, 3: 0.1, 4: 0.9, 5: 0.9, 6: 0.9,
    }  # fmt: skip


def test_the_report_loads_and_runs_nothing() -> None:
    page = page_of(list(learning_run()))
    names = {name for name, _ in page.elements}
    assert names.isdisjoint({"script", "img", "link", "iframe", "object", "use", "image", "a"})
    assert not any(
        key.startswith("on") or key in ("src", "href") for _, attributes in page.elements for key in attributes
    )
    policy = next(a["content"] for n, a in page.elements if n == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_hostile_output_is_shown_as_text() -> None:
    page = page_of([sample(3.0, HOSTILE), step(1, **{"<b>": 1.0})])
    assert "<script>alert(1)</script>" in page.text
    assert "⟨U+001B⟩[31m⟨U+202E⟩" in page.text
    assert "<b>" in page.text
    assert not any(name in ("b", "script", "think") and "onerror" in attributes for name, attributes in page.elements)


def test_the_report_covers_the_run() -> None:
    page = page_of(list(learning_run()))
    assert "Held-out accuracy rose from 42% to 92%" in page.text
    charts = {attributes.get("aria-label") for name, attributes in page.elements if name == "svg"}
    assert {
        "Held-out accuracy",
        "Training reward",
        "Staleness of the trained tokens",
        "Utilisation of the pools",
        "Tokens a second",
        "Weight updates",
        "Response length",
        "Entropy",
        "Engine and learner disagree by",
    } <= charts
    for text in (
        "None was over it",
        "zero_variance",
        "verifier-1",
        "Every issued group is accounted for",
        "lr: 0.0003",
    ):
        assert text in page.text


def test_the_report_shows_what_the_reward_was_made_of() -> None:
    events: list[Event] = [step(n, **{"reward/accuracy": n / 10, "reward/format": 1.0}) for n in range(1, 10)]
    page = page_of(events)
    charts = [attributes.get("aria-label") for name, attributes in page.elements if name == "svg"]
    assert "Parts of the reward" in charts
    assert "accuracy" in page.text and "Reward / accuracy" not in page.text
    alone = page_of([step(n, **{"reward/accuracy": 1.0}) for n in range(1, 10)])
    assert "Parts of the reward" not in alone.text, "one part says no more than the reward"


def test_the_report_puts_warnings_into_words() -> None:
    events: list[Event] = [step(n, entropy=0.0001) for n in range(1, 10)]
    state = RunState(info())
    for event in events:
        state.fold(event)
    (warning,) = warnings(state)
    assert warning.text in page_of(events).text


def test_a_report_without_any_event_is_a_page() -> None:
    assert "No values yet." in page_of([]).text


def test_a_long_run_makes_a_report_of_bounded_size() -> None:
    state = RunState(info(steps=5000))
    for n in range(1, 5001):
        state.fold(step(n, reward=n / 5000, entropy=0.1))
        state.fold(tick(2.0 * n, 2.0, generation=100.0 + n))
    assert len(render(state)) < 2_000_000
