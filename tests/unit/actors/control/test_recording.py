"""What is kept of a run: stamped events in order, and nothing that a malformed one could end."""

import threading
from pathlib import Path
from typing import Any

import pytest

from actors.control import recording
from actors.control.recording import Recording
from actors.events import Event, Phase, Unresponsive
from actors.observability import metrics
from actors.report.recorder import RunRecorder
from actors.report.state import RunInfo
from tests.unit.actors.report.example_events import largest_file


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> Recording:
    info = RunInfo(recipe="r", seed=0, folder=tmp_path, total_steps=3, max_staleness=1, groups_per_batch=4)
    return Recording(RunRecorder(info), clock)


def test_an_event_is_stamped_with_the_time_since_the_runs_start(kept: Recording, clock: Clock) -> None:
    clock.now += 2.5
    kept.add(Phase(name="training"))
    events, count = kept.after(0)
    assert [e["seconds"] for e in events] == [2.5] and count == 1
    assert kept.after(1) == ([], 1)


def test_a_malformed_event_is_counted_and_ends_nothing(kept: Recording) -> None:
    before = metrics.MALFORMED_EVENTS._value.get()
    events: list[dict[str, Any]] = [
        {"kind": "step", "step": "many"},
        {"kind": "novel"},
        {},
        {"kind": "phase", "name": "training", "number": 7},
    ]
    kept.add_received(events, last=9)
    assert kept.seen == 9
    assert metrics.MALFORMED_EVENTS._value.get() - before == 3
    assert kept.state.phase.name == "training"
    kept.close()


def test_a_display_that_fell_behind_gets_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "EVENTS_KEPT", 3)
    info = RunInfo(recipe="r", seed=0, folder=tmp_path, total_steps=3, max_staleness=1, groups_per_batch=4)
    kept = Recording(RunRecorder(info))
    for number in range(5):
        kept.add(Phase(name=f"phase {number}"))
    events, count = kept.after(1)
    assert [e["name"] for e in events] == ["phase 2", "phase 3", "phase 4"]
    assert count == 5
    assert [e["name"] for e in kept.after(4)[0]] == ["phase 4"]
    kept.close()


def test_what_cannot_be_written_is_an_event_like_any_other(kept: Recording) -> None:
    kept.add(Phase(name="training"))
    with largest_file(10):
        kept.add(Phase(name="evaluation"))
    assert [e["kind"] for e in kept.after(0)[0]] == ["phase", "phase", "write_failed"]
    assert kept.state.unwritten == {"the record of the run": "File too large"}
    kept.close()


def test_a_run_that_resumes_is_not_told_again_what_is_on_its_record(tmp_path: Path, clock: Clock) -> None:
    """The replay comes back with its journal, and has every event of before."""
    info = RunInfo(recipe="r", seed=0, folder=tmp_path, total_steps=3, max_staleness=1, groups_per_batch=4)
    first = Recording(RunRecorder(info), clock)
    first.add_received([{"kind": "phase", "name": "training", "detail": "", "number": 41}], 41)
    first.close()
    assert Recording(RunRecorder(info, resumed_at=0), clock).seen == 41


def test_a_reader_sees_an_event_whole_or_not_at_all(kept: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread cannot read while an event is folded, nor can one be folded while another thread reads."""
    begun, go_on, read = threading.Event(), threading.Event(), threading.Event()
    fold = kept.state.fold

    def slowly(event: Event) -> None:
        kept.state.unresponsive["half"] = Unresponsive(role="verifier", member="half", state="silent", detail="")
        begun.set()
        assert go_on.wait(30)
        del kept.state.unresponsive["half"]
        fold(event)

    found: list[list[str]] = []

    def look() -> None:
        with kept.reading() as state:
            found.append([*state.unresponsive, state.phase.name])
        read.set()

    monkeypatch.setattr(kept.state, "fold", slowly)
    recording_ = threading.Thread(target=kept.add, args=(Phase(name="training"),))
    looking = threading.Thread(target=look)
    recording_.start()
    assert begun.wait(30)
    looking.start()
    assert not kept._recorder.lock.acquire(blocking=False), "an event is half folded"
    assert not read.is_set()
    go_on.set()
    for thread in (recording_, looking):
        thread.join(30)
    assert found == [["training"]]


def test_nobody_waits_for_a_disk_to_read_the_state(kept: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    free: list[bool] = []

    def write(_: Event) -> None:
        def look() -> None:
            with kept.reading():
                free.append(True)

        looking = threading.Thread(target=look)
        looking.start()
        looking.join(30)

    monkeypatch.setattr(kept._recorder._folder, "write", write)
    kept.add(Phase(name="training"))
    assert free == [True]


def test_what_is_done_together_with_an_event_is_seen_with_it(kept: Recording) -> None:
    reading = threading.Event()
    seen: list[str] = []

    def look() -> None:
        reading.set()
        with kept.reading() as state:
            seen.append(state.phase.name)

    looking = threading.Thread(target=look)

    def together() -> None:
        looking.start()
        assert reading.wait(30)
        seen.append("done together")

    kept.add(Phase(name="training"), together=together)
    looking.join(30)
    assert seen == ["done together", "training"]
