"""Ranks that are started by the commands which mpiexec prints: here by one that prints as MPICH's does."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from actors.control import reaper
from actors.deadline import until
from actors.doctor.launch import launched
from actors.errors import RunError

#: Prints a command a rank, waits for all of them, then says what it was asked for and ends as a file here says.
MPIEXEC = """#!/bin/sh
while [ "$1" != -n ]; do shift; done
n=$2; shift 3
for i in $(seq 0 $((n - 1))); do echo "HYDRA_LAUNCH: touch '{folder}/rank $i' "; done
echo HYDRA_LAUNCH_END
for i in $(seq 0 $((n - 1))); do until [ -e "{folder}/rank $i" ]; do sleep 0.02; done; done
echo "ran $*"
exit $(cat {folder}/code)
"""


class Here:
    def start(self, command: Sequence[str]) -> None:
        subprocess.run(command, check=True)


class Nowhere:
    def start(self, command: Sequence[str]) -> None:
        """It never comes up."""


@pytest.fixture
def mpiexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mpiexec.hydra"
    path.write_text(MPIEXEC.format(folder=tmp_path))
    path.chmod(0o755)
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_each_rank_runs_its_command(mpiexec: Path) -> None:
    launched(["broadcast_perf"], [Here(), Here(), Here()], "127.0.0.1", 60)
    assert sorted(path.name for path in mpiexec.glob("rank *")) == ["rank 0", "rank 1", "rank 2"]


def test_what_a_program_that_failed_has_said_is_said(mpiexec: Path) -> None:
    (mpiexec / "code").write_text("3")
    with pytest.raises(RunError, match="exit code 3: ran broadcast_perf -g 1"):
        launched(["broadcast_perf", "-g", "1"], [Here(), Here()], "127.0.0.1", 60)


@pytest.mark.usefixtures("mpiexec")
def test_ranks_that_do_not_come_up_end_the_wait() -> None:
    with pytest.raises(RunError, match=r"2 ranks did not end within 0\.2 s: .*reach 127\.0\.0\.1: set NCCL_DEBUG"):
        launched(["broadcast_perf"], [Here(), Nowhere()], "127.0.0.1", 0.2)


def test_a_machine_without_mpiexec_is_told_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="CUDA image"):
        launched(["broadcast_perf"], [Here()], "127.0.0.1", 1)


def test_mpiexec_ends_with_the_program_that_has_started_it(mpiexec: Path) -> None:
    """By kill -9, too; what it holds are GPUs."""
    program = (
        "from actors.doctor.launch import launched\n"
        "class Nowhere:\n    def start(self, command): print('asked', flush=True)\n"
        "launched(['broadcast_perf'], [Nowhere()], '127.0.0.1', 600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as doctor:
        try:
            assert doctor.stdout is not None and doctor.stdout.readline() == "asked\n"
            (started,) = [child for child in psutil.Process(doctor.pid).children() if "mpiexec" in child.cmdline()[1]]
        finally:
            doctor.kill()
    try:
        assert until(lambda: not reaper.alive(started.pid), 30)
    finally:
        if started.is_running():
            started.kill()
    assert mpiexec.is_dir()
