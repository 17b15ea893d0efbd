"""The cluster of the base manifest as Ray's real autoscaler keeps it, on nodes that are processes of this machine."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE

from actors.config.network import NetworkConfig
from actors.control import environment
from actors.control.cluster import guarded
from actors.fleet.real import broken_in_run
from actors.replay.limits import Reason
from actors.transport.address import listen, resolve
from deploy.render import FOLDER, RECIPE_FILE, RECIPE_MAP, kustomized
from deploy.scheduling import autoscaling
from tests.e2e.conftest import ENDLESS, ROOT, Run
from tests.e2e.test_monitoring import status

#: A busy machine takes long to start a dozen processes that import torch, and five nodes.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

#: What every process of the cluster runs first: agents do not import the dashboard then, see `control.cluster`.
FIRST = "import sys; sys.modules['ray.dashboard.optional_deps'] = None"
#: How Ray calls the head's group.
HEAD = "headgroup"
#: The manifest's idle timeouts are divided by this, and nothing else of its groups is changed.
HURRY = 50
#: Of a node's objects (bytes).
STORE = 80 * 2**20
#: The base's own recipe, smaller: an engine without a model, whose groups take 8 s, twice as long as who leaves has for
#: them; and what the laws need.
SMALL = {
    "steps": ENDLESS,
    "generators.engine": "synthetic",
    "generators.groups_in_flight": "4",
    "generators.synthetic": "{tokens_per_second: 5, mean_tokens: 40, sigma: 0}",
    "generators.drain_seconds": "5",
    "cold_start": "null",
    "evaluation.every_steps": "0",
    "evaluation.samples": "1",
    "tasks.held_out": "4",
    "replay.groups_per_batch": "2",
    "replay.journal.keep": "all",
    "checkpoint_every_steps": "2",
    "sandbox.workers": "1",
    "network.ports": "{}",
}


def manifest() -> tuple[dict[str, Any], str]:
    """The RayCluster of deploy/base, and the recipe that comes with it."""
    found = kustomized(FOLDER / "base")
    (cluster,) = [d for d in found if d["kind"] == "RayCluster"]
    (recipe,) = [d["data"][RECIPE_FILE] for d in found if d["metadata"]["name"] == RECIPE_MAP]
    return cluster, recipe


def on_this_machine(config: dict[str, Any], port: int) -> dict[str, Any]:
    """The same groups as fake nodes: resources, labels, bounds and idle timeouts as they are.

    Memory is left out, of which this machine has less than the manifest's pods, and nobody asks Ray for any.
    """
    config = copy.deepcopy(config)
    types = config["available_node_types"]
    for group in types.values():
        group["resources"].pop("memory", None)
        if "idle_timeout_s" in group:
            group["idle_timeout_s"] /= HURRY
    for name in types.keys() - {HEAD}:
        types[name]["resources"]["object_store_memory"] = STORE
    types[FAKE_HEAD_NODE_TYPE] = types.pop(HEAD)
    config["idle_timeout_minutes"] /= HURRY
    return config | {
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "docker": {},
        "rsync_exclude": [],
        "rsync_filter": [],
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
    }


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its address."""
    with listen(resolve(NetworkConfig(), in_cluster=False)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    config = on_this_machine(autoscaling(manifest()[0]), port)
    (tmp_path / "autoscaling.yaml").write_text(json.dumps(config))
    offered = dict(config["available_node_types"][FAKE_HEAD_NODE_TYPE]["resources"])
    with guarded(environment.describe(None)) as guard:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head"),
            *(f"--port={port}", f"--object-store-memory={STORE}", "--disable-usage-stats", "--include-dashboard=false"),
            *(f"--num-cpus={offered.pop('CPU')}", f"--resources={json.dumps(offered)}"),
            *(f"--temp-dir={guard.folder}/ray", f"--autoscaling-config={tmp_path}/autoscaling.yaml"),
        ]
        (tmp_path / "first").mkdir()
        (tmp_path / "first" / "sitecustomize.py").write_text(FIRST)
        changed = {
            "PYTHONPATH": str(tmp_path / "first"),
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
        ray.init(address=f"127.0.0.1:{port}", namespace="autoscaling", log_to_driver=False, logging_level="CRITICAL")
        yield f"127.0.0.1:{port}"
        ray.shutdown()


def nodes() -> dict[str, set[str]]:
    """The nodes that live, by the label that the manifest gives their group."""
    found: dict[str, set[str]] = {"generator": set(), "verifier": set(), "learner": set()}
    for node in ray.nodes():
        if node["Alive"] and (group := node["Labels"].get("leeway-group")):
            found.setdefault(group, set()).add(node["NodeID"])
    return found


def counts() -> dict[str, int]:
    return {group: len(there) for group, there in nodes().items()}


def generators(node: str) -> list[psutil.Process]:
    """The actors of a node: the provider gives them its name, and the manifest's preStop goes by their title."""
    found = []
    for process in psutil.process_iter():
        try:
            named = process.environ().get("RAY_OVERRIDE_NODE_ID_FOR_TESTING") == node
            if named and " ".join(process.cmdline()).startswith("ray::Generator"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def scaled(run: Run, count: int) -> None:
    command = [sys.executable, "-m", "actors.cli", "scale", "generators", str(count), "--run", str(run.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and f"generators: {count}" in done.stdout, done.stdout + done.stderr


def member(run: Run, process: psutil.Process) -> str:
    """The name of an actor, by its log; empty before it has one."""
    logs = run.folder.glob("logs/generator-*.log")
    return next((path.stem for path in logs if f"process {process.pid}\n" in path.read_text()), "")


def under_way(run: Run, name: str) -> int:
    """How many groups a generator works on."""
    members = status(run)["members"]
    return int(members[name]["report"]["groups_in_flight"]) if name in members else 0


def test_generator_nodes_come_and_go_with_the_pool_and_whoever_leaves_loses_nothing(
    cluster: str, start: Callable[..., Run], tmp_path: Path
) -> None:
    (tmp_path / RECIPE_FILE).write_text(manifest()[1])
    settings = SMALL | {"output": str(tmp_path / "output"), "ray.address": cluster}
    run = start([str(tmp_path / RECIPE_FILE), *(f"-s{key}={value}" for key, value in settings.items())], 400.0)
    run.wait_for_step(1)
    before = nodes()
    assert {group: len(there) for group, there in before.items()} == {"generator": 1, "verifier": 1, "learner": 1}

    scaled(run, 3)
    run.wait_for("three nodes of generators", lambda: counts()["generator"] == 3)
    one_to_leave(run, (nodes()["generator"] - before["generator"]).pop())
    run.wait_for("another in its place", lambda: run.happened("restart", role="generator"))

    scaled(run, 1)
    run.wait_for("the nodes of two generators to go", lambda: counts()["generator"] == 1)
    assert nodes() == before, "others have come or gone"
    run.wait_for_step(run.steps + 2)
    run.kill(signal.SIGTERM)
    assert run.end() == 143, run.text()[-3000:]
    assert lost(run) == []
    assert [(e["role"], e["reason"]) for e in run.events() if e["kind"] == "restart"] == [("generator", "it left")]


def one_to_leave(run: Run, node: str) -> None:
    """SIGTERM to the actor of a node, as before a pod is stopped, amid its work."""
    (leaving,) = run.wait_for("a generator on a new node", lambda: generators(node))
    name = run.wait_for("its log", lambda: member(run, leaving))
    run.wait_for("work for it", lambda: under_way(run, name) > 0)
    leaving.send_signal(signal.SIGTERM)
    run.wait_for("the generator to leave", lambda: not leaving.is_running())
    assert re.search(r"leaving: [1-9]\d* groups are under way", (run.folder / f"logs/{name}.log").read_text())


def lost(run: Run) -> list[str]:
    """What the laws of the fleet say is broken, and what was issued again since somebody died with it."""
    events = run.events()
    dropped: Counter[str] = Counter([event["groups"] for event in events if event["kind"] == "tick"][-1]["dropped"])
    died = {Reason.WORKER_LOST, Reason.LEASE_EXPIRED, Reason.ATTEMPTS_EXHAUSTED} & dropped.keys()
    return [
        *broken_in_run(run.folder, events),
        *(f"{dropped[reason]} groups dropped: {reason}" for reason in died),
    ]
