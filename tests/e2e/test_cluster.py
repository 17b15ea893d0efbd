"""A run's own Ray cluster, whose processes may hang when the run ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actors.control import reaper
from actors.deadline import until

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
#: Joins a cluster of its own, suspends its processes of one name, and leaves it.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import psutil
from actors.config.loading import load
from actors.control import cluster, environment, reaper
from sandbox.interrupts import Interrupts

cluster.LEAVE_SECONDS = 1.0
recipe = load(Path(sys.argv[1]), ["ray.num_cpus=2"])
with Interrupts() as interrupts, cluster.guarded(environment.describe(None)) as guard:
    with cluster.cluster(recipe, Path(sys.argv[2]), guard, interrupts):
        suspended = [p for p in psutil.Process().children(recursive=True) if p.name() == sys.argv[3]]
        print(os.environ[reaper.MARK], guard.folder, len(suspended), flush=True)
        for one in suspended:
            one.suspend()
print("left", flush=True)
os._exit(0)
"""


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_run_ends_whose_cluster_hangs_and_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(QUICKSTART), str(tmp_path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    first, *rest = said.splitlines() or [errors]
    run, folder, suspended = first.split()
    try:
        assert suspended == "1" and rest == ["left"], errors
        assert "its own processes, which hang, are killed" in errors or name == "raylet"
        assert until(lambda: not reaper.marked(run, folder), 20)
        assert not Path(folder).exists()
    finally:
        for pid in reaper.marked(run, folder):
            os.kill(pid, signal.SIGKILL)
