"""What the benchmarks of fleets make of a learner's notes."""

import json
from pathlib import Path

import pytest

from actors.fleet.learner import NOTES
from benchmarks.recovery import percentile
from benchmarks.throughput import Throughput, first_moment


@pytest.fixture
def throughput(tmp_path: Path) -> Throughput:
    """Four groups a second, but for a gap between 3 and 6 s; version 2 was trained again later."""
    moments = [1.0, 2.0, 3.0, 6.0, 7.0, 8.0]
    notes = [{"trained": v, "groups": [1, 2, 3, 4], "seconds": moment} for v, moment in enumerate(moments)]
    notes.insert(4, {"trained": 2, "groups": [1, 2, 3, 4], "seconds": 6.5})
    (tmp_path / NOTES).write_text("".join(json.dumps(note) + "\n" for note in notes))
    return Throughput(tmp_path)


def test_groups_are_counted_from_step_to_step(throughput: Throughput) -> None:
    assert throughput.between(0.5, 3.5) == pytest.approx(4.0)
    assert throughput.between(0.5, 6.5) == pytest.approx(12 / 5)
    assert throughput.between(3.5, 5.5) == 0.0


def test_recovery_is_when_a_whole_window_is_as_good_as_before(throughput: Throughput) -> None:
    back = first_moment(lambda moment: throughput.in_window(moment, 2.0), 3.6, 3.1, 2.0, 30.0)
    assert back == pytest.approx(5.1, abs=0.11)
    assert first_moment(lambda moment: throughput.in_window(moment, 2.0), 8.0, 3.1, 2.0, 5.0) is None


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(v) for v in range(1, 21)]
    assert percentile(values, 0.95) == 20.0
    assert percentile([3.0], 0.95) == 3.0
