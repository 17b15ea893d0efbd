"""A short soak; `python -m benchmarks soak` is the long one."""

from __future__ import annotations

import pytest

from benchmarks.sandbox_soak import soak


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_nothing_is_lost_false_or_left_while_processes_are_killed() -> None:
    report = soak(96, seed=7, kill_every_seconds=1.0)
    assert report.killed > 0
    assert (report.verdicts, report.lost, report.false) == (report.programs, 0, [])
    assert (report.processes_left, report.threads_left) == (0, 0)
    assert (report.descriptors_left, report.files_left) == ([], [])
    assert report.memory_growth_bytes < 64 << 20
    assert 0 < report.worker_bytes < 1 << 30
    assert 0 < report.fork_server_bytes < 1 << 30
