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
        process.wait(60)


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
    assert until(lambda: marked.pid in reaper.marked("run-a"), 30)
    assert marked.poll() is None
    watcher.stdin.close()
    assert watcher.wait(60) == 0
    assert marked.wait(60) < 0
    assert other.poll() is None
    assert plain.poll() is None
    assert not folder.exists()


TITLED = """
import setproctitle, sys, time
setproctitle.setproctitle(f"a title that is longer than the environment: {'x' * 20000}")
open_ = open(sys.argv[1], "w")
print(flush=True)
time.sleep(100)
"""


def test_it_ends_who_wrote_a_title_over_the_mark(tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for place in (folder, tmp_path):
        command = [sys.executable, "-c", TITLED, str(place / "log")]
        environment = {**os.environ, reaper.MARK: "run-c"}
        sleepers.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
        stdout = sleepers[-1].stdout
        assert stdout is not None and stdout.readline()
    theirs, other = sleepers
    assert reaper.marked("run-c") == []
    assert reaper.sweep("run-c", str(folder)) == []
    assert theirs.wait(60) < 0
    assert other.poll() is None


def test_a_process_lives_while_one_of_its_threads_does(sleepers: list[subprocess.Popen[bytes]]) -> None:
    """Its first thread may be gone: the others hold its files and sockets as before."""
    program = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(100,)).start(); "
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    sleepers.append(subprocess.Popen([sys.executable, "-c", program]))
    stat = Path(f"/proc/{sleepers[-1].pid}/stat")
    assert until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", 30)
    assert reaper.alive(sleepers[-1].pid)
    sleepers[-1].kill()
    assert until(lambda: not reaper.alive(sleepers[-1].pid), 30)
