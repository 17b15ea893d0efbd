"""The TensorBoard files of a run, on synthetic events."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from actors.deadline import until
from actors.report.tensorboard import TensorBoard
from tests.unit.actors.report.example_events import largest_file, record, step


def test_tensorboard_hides_the_steps_that_were_lost(tmp_path: Path) -> None:
    record(tmp_path, [step(n, reward=0.1) for n in range(1, 6)])
    record(tmp_path, [step(n, reward=0.9) for n in range(4, 7)], resumed_at=3)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "training"))
    events.Reload()
    assert {e.step: round(e.value, 1) for e in events.Scalars("train/reward")} == {
        1: 0.1, 2: 0.1, 3: 0.1, 4: 0.9, 5: 0.9, 6: 0.9,
    }  # fmt: skip


def test_a_disk_that_was_full_leaves_a_gap_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = TensorBoard(tmp_path)

    def gap() -> bool:
        writer.scalars(1, 1.0, {"a": 1.0})
        return "have a gap" in caplog.text

    with largest_file(0):
        assert until(gap, 30)
    for number in (2, 3):
        writer.scalars(number, float(number), {"a": float(number)})
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [e.step for e in events.Scalars("a")][-2:] == [2, 3]
