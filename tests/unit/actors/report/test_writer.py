"""The files of a run line by line, on synthetic events."""

import json
import math
from pathlib import Path

import pytest

from actors.errors import RunError
from actors.events import EVENT, StepDone
from actors.report.recorder import reopened
from actors.report.writer import RunFolder
from learner.files import write_atomically
from tests.unit.actors.report.example_events import info, largest_file, learning_run, record, reward_model, step, tick


def kinds(folder: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(step(1, reward=0.5))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["statistics"] == {"reward": 0.5}
    folder.close()


def test_ticks_are_merged_and_none_is_lost(tmp_path: Path) -> None:
    state = record(tmp_path, [tick(float(i), 1.0) for i in range(1, 26)])
    assert kinds(tmp_path) == ["tick"] * 3
    assert reopened(info(tmp_path), 0).generated == pytest.approx(state.generated)


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


def test_replacing_a_file_leaves_no_draft(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "one")
    write_atomically(tmp_path / "a", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "two"


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    with pytest.raises(RunError, match=r"metrics\.jsonl is being written by another process"):
        RunFolder(tmp_path)
    first.close()
    RunFolder(tmp_path).close()


def test_a_line_that_does_not_fit_is_left_out_as_a_whole(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(step(1))
    size = (tmp_path / "metrics.jsonl").stat().st_size
    with largest_file(size + 20), pytest.raises(OSError, match="too large"):
        folder.write(step(2))
    folder.write(step(3))  # there is room again
    folder.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 3]


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "one")
    with largest_file(10), pytest.raises(OSError, match="too large"):
        write_atomically(tmp_path / "a", "two" * 100)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "one"


def test_where_nothing_can_be_written_a_run_does_not_start(tmp_path: Path) -> None:
    with largest_file(0), pytest.raises(RunError, match="cannot be written"):
        RunFolder(tmp_path)


def test_every_event_survives_a_line_of_json() -> None:
    for event in (*learning_run(20), reward_model(0.9)):
        assert EVENT.validate_json(event.model_dump_json()) == event


def test_a_number_that_is_not_finite_is_null_in_json_and_nan_again() -> None:
    line = step(1, loss=math.nan).model_dump_json()
    assert json.loads(line)["statistics"] == {"loss": None}
    read = EVENT.validate_json(line)
    assert isinstance(read, StepDone)
    assert math.isnan(read.statistics["loss"])
