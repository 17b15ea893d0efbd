"""A run's own Ray cluster, whose processes may hang when the run ends."""

import os
import signal
import socket
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


#: Joins a cluster.
JOINED = """
import sys
from pathlib import Path
from actors.config.loading import load
from actors.control import cluster, environment
from actors.errors import RunError
from sandbox.interrupts import Interrupts

cluster.HEAD_ATTEMPTS = 1
recipe = load(Path(sys.argv[1]), [f"ray.address={sys.argv[3]}"])
with Interrupts() as interrupts, cluster.guarded(environment.describe(None)) as guard:
    try:
        with cluster.cluster(recipe, Path(sys.argv[2]), guard, interrupts):
            print("joined")
    except RunError as error:
        print(error)
"""


@pytest.mark.e2e
def test_a_cluster_whose_head_hangs_is_named_and_not_waited_for(tmp_path: Path) -> None:
    """Whoever is suspended still takes connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        command = [sys.executable, "-c", JOINED, str(QUICKSTART), str(tmp_path), address]
        variables = os.environ | {"RAY_AUTH_MODE": "disabled"}  # or Ray leaves a token in the home folder
        ended = subprocess.run(command, capture_output=True, text=True, timeout=115, check=False, env=variables)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"the cluster at {address} cannot be joined: ")
    assert f"Its head may hang: see what `ray health-check --address {address}` says there." in ended.stdout


#: Suspends an actor that holds a place of the preflight, and asks it.
ASKED = """
import os, signal, sys
from pathlib import Path
from actors.config.loading import load
from actors.control import cluster, environment, reaper
from actors.doctor import preflight
from actors.errors import RunError
from sandbox.interrupts import Interrupts

preflight.ANSWER_SECONDS = 1.0
recipe = load(Path(sys.argv[1]), ["ray.num_cpus=2"])
with Interrupts() as interrupts, cluster.guarded(environment.describe(None)) as guard:
    with cluster.cluster(recipe, Path(sys.argv[2]), guard, interrupts):
        import ray

        class Place(preflight.Placeholder):
            def pid(self):
                return os.getpid()

        place = ray.remote(Place).options(num_cpus=0).remote("report", recipe.network)
        pid = ray.get(place.pid.remote(), timeout=60)
        rank = preflight.PlacedRank(ray, place, 0, "generator 2, worker 0")
        rank.start(["true"])
        os.kill(pid, signal.SIGSTOP)
        for ask in (lambda: rank.start(["true"]), rank.report):
            try:
                ask()
            except RunError as error:
                print(error, flush=True)
"""


@pytest.mark.e2e
def test_a_place_that_hangs_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKED, str(QUICKSTART), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stderr
    said = "the place of generator 2, worker 0 did not answer within 1 s: its process hangs, or its node is cut off"
    assert [line.partition(";")[0] for line in ended.stdout.splitlines()] == [said] * 2
