"""A short soak; `python -m benchmarks.sandbox_soak 10000` is the long one."""

from __future__ import annotations

import pytest

from benchmarks.sandbox_soak import soak


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_nothing_is_lost_false_or_left_while_processes_are_killed() -> None:
    report = soak(96, seed=7, kill_every_seconds=1.0)
    assert report.killed > 0
    assert (report.lost, report.false) == (0, [])
    assert (report.processes_left, report.threads_left, report.files_left) == (0, 0, [])
    assert report.descriptors_left <= 0
    assert report.memory_growth_bytes < 64 << 20
