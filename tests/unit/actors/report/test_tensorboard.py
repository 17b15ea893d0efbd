"""The TensorBoard files of a run, on synthetic events."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.unit.actors.report.example_events import record, step


def test_tensorboard_hides_the_steps_that_were_lost(tmp_path: Path) -> None:
    record(tmp_path, [step(n, reward=0.1) for n in range(1, 6)])
    record(tmp_path, [step(n, reward=0.9) for n in range(4, 7)], resumed_at=3)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "training"))
    events.Reload()
    assert {e.step: round(e.value, 1) for e in events.Scalars("train/reward")} == {
        1: 0.1, 2: 0.1, 3: 0.1, 4: 0.9, 5: 0.9, 6: 0.9,
    }  # fmt: skip
