"""Pools that grow and shrink take nodes along: Ray's real autoscaler, on nodes that are processes of this machine."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE

from actors.config.network import NetworkConfig
from actors.control import environment
from actors.control.cluster import guarded
from actors.control.scaling import Scaling
from actors.control.starter import RayStarter
from actors.control.supervisor import Supervisor
from actors.deadline import until
from actors.fleet.recipe import fleet_recipe
from actors.roles.role import Storage
from actors.transport.address import listen, resolve

pytestmark = pytest.mark.e2e

#: Ray's own command, whose agents do not import the dashboard: see `control.cluster`.
START = "import sys; sys.modules['ray.dashboard.optional_deps'] = None; from ray.scripts.scripts import main; main()"
#: Longest wait for nodes to come or to go (s).
SECONDS = 110.0
EMPTY_LISTS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter"),
)


def configuration(port: int) -> dict[str, Any]:
    """A head without CPUs, and up to four nodes with one each."""
    return {
        "cluster_name": "fake",
        "max_workers": 4,
        "provider": {
            # By its module: for the name `fake_multinode` Ray reads a file of defaults that its wheel lacks.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "one-cpu": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 4},
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "file_mounts_sync_continuously": False,
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in EMPTY_LISTS},
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[None]:
    with listen(resolve(NetworkConfig(), in_cluster=False)) as free:
        port = free.getsockname()[1]
    with guarded(environment.describe(None)) as guard:
        (tmp_path / "fake.yaml").write_text(json.dumps(configuration(port)))
        command = [
            *(sys.executable, "-c", START, "start", "--head"),
            *(f"--port={port}", "--num-cpus=0", f"--object-store-memory={80 * 2**20}", "--disable-usage-stats"),
            *(
                "--include-dashboard=false",
                f"--temp-dir={guard.folder}/ray",
                f"--autoscaling-config={tmp_path}/fake.yaml",
            ),
        ]
        changed = {
            "RAY_AUTH_MODE": "disabled",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        }
        log = tmp_path / "start.log"
        for _ in range(2):  # Ray gives its processes 30 s to start, which a busy machine exceeds
            with log.open("w") as said:  # its daemons would keep a pipe open
                started = subprocess.run(command, env=os.environ | changed, stdout=said, stderr=said, timeout=100)
            if started.returncode == 0:
                break
        assert started.returncode == 0, log.read_text()
        ray.init(address=f"127.0.0.1:{port}", namespace="autoscaling", log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


def nodes() -> int:
    """Nodes with a CPU that live."""
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())


@pytest.mark.usefixtures("cluster")
def test_nodes_come_with_a_pool_that_grows_and_go_with_one_that_shrinks(tmp_path: Path) -> None:
    recipe = fleet_recipe(tmp_path, [("verifiers.cpus", 1), ("verifiers.count", 1), ("controller.orphan_seconds", 600)])
    supervisor = Supervisor(recipe, Storage(tmp_path), RayStarter())
    supervisor.replay = "tcp://127.0.0.1:9"  # there is none: they ask for work all the same
    scaling = Scaling(recipe, tmp_path)
    scaling.want("generator", 0)

    def settled(count: int) -> bool:
        scaling.step(supervisor, time.monotonic())
        for gone in supervisor.exited(0.5):
            assert scaling.left(gone.process.name), gone
            gone.process.process.kill()
        there = [p for p in supervisor.processes() if p.name not in scaling.leaving]
        for process in there:
            if process.process.describe(0.1) is not None:
                supervisor.came_up(process.name)
        return nodes() == count == len(supervisor.processes()) and all(process.up for process in there)

    assert nodes() == 0
    assert until(lambda: settled(1), SECONDS), ray.nodes()
    scaling.want("verifier", 3)
    assert until(lambda: settled(3), SECONDS), ray.nodes()
    scaling.want("verifier", 1)
    assert until(lambda: settled(1), SECONDS), ray.nodes()
