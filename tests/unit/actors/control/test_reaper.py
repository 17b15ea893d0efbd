"""The reaper ends what carries its mark, and nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.control import reaper
from actors.deadline import until


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait(5)


def sleeper(started: list[subprocess.Popen[bytes]], run: str | None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **({reaper.MARK: run} if run else {})}
    started.append(subprocess.Popen(["sleep", "100"], env=environment))
    return started[-1]


def test_it_ends_a_run_when_its_pipe_closes(tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]) -> None:
    marked, other, plain = sleeper(sleepers, "run-a"), sleeper(sleepers, "run-b"), sleeper(sleepers, None)
    folder = tmp_path / "sockets"
    folder.mkdir()
    (folder / "socket").touch()
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", reaper.__file__, "run-a", str(folder)], stdin=subprocess.PIPE
    )
    assert watcher.stdin is not None
    assert until(lambda: marked.pid in reaper.marked("run-a"), 5)
    assert marked.poll() is None
    watcher.stdin.close()
    assert watcher.wait(15) == 0
    assert marked.wait(5) < 0
    assert other.poll() is None
    assert plain.poll() is None
    assert not folder.exists()
