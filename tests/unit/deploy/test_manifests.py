"""Every overlay up the whole ladder, and for each rule manifests that it refuses."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.cli import app as cli
from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.doctor.preflight import PLACED_SECONDS, TEST_SECONDS
from actors.errors import RecipeError, RunError
from deploy.__main__ import app
from deploy.check import faults
from deploy.pod_security import pods
from deploy.render import (
    FOLDER,
    MARGIN_SECONDS,
    OVERRIDES,
    RECIPE_FILE,
    built,
    documents,
    kustomized,
    measuring,
    overlays,
    rendered,
)
from deploy.scheduling import autoscaling, launched

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds the overlays")
RECIPES = Path(__file__).parents[3] / "recipes"
Change = Callable[[dict[str, Any]], object]


def recipe(*overrides: str, name: str = "quickstart") -> Recipe:
    return load(RECIPES / f"{name}.yaml", (*OVERRIDES, *overrides))


@pytest.fixture(scope="module")
def whole() -> list[dict[str, Any]]:
    return rendered("cpu-smoke", recipe())


@pytest.fixture(scope="module")
def preflight() -> list[dict[str, Any]]:
    return kustomized(FOLDER / "preflight")


def named(found: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    return next(d for d in found if d["kind"] == kind and name in ("", d["metadata"]["name"]))


@pytest.mark.parametrize("overlay", overlays())
def test_nothing_would_refuse_what_an_overlay_alone_makes(overlay: str) -> None:
    assert list(faults(built(overlay))) == []


def test_nothing_would_refuse_the_generators_that_join_from_another_cluster() -> None:
    assert list(faults(kustomized(FOLDER / "joining"))) == []


def test_with_the_component_verifiers_and_nobody_else_run_in_gvisor(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "deploy")
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [deploy/overlays/cpu-smoke]\ncomponents: [deploy/components/gvisor]\n"
    )
    found = kustomized(tmp_path)
    classes = [pod.get("runtimeClassName") for document in found for _, pod in pods(document)]
    assert classes.count("gvisor") == 1
    assert _group(named(found, "RayCluster"), 1)["template"]["spec"]["runtimeClassName"] == "gvisor"
    assert list(faults(found)) == []


@pytest.mark.parametrize("overlay", overlays())
def test_nothing_would_refuse_an_overlay_with_a_recipe(overlay: str) -> None:
    assert list(faults(rendered(overlay, recipe("generators.count=3", "verifiers.count=2")))) == []


def test_nothing_would_refuse_the_preflight_which_takes_the_place_of_the_run() -> None:
    found = measuring(rendered("multi-node-rdma", recipe()), recipe())
    assert list(faults(found)) == []
    assert {"Job", "RayCluster"} <= {d["kind"] for d in found} and "RayJob" not in {d["kind"] for d in found}


def test_the_preflight_calls_a_command_that_exists_on_the_recipe_of_the_head(whole: list[dict[str, Any]]) -> None:
    ((_, pod),) = pods(named(measuring(whole, recipe()), "Job", "leeway-preflight"))
    command = pod["containers"][0]["command"]
    entry = command[command.index("--") + 1 :]
    head = named(whole, "RayCluster")["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    folder = next(mount["mountPath"] for mount in head["volumeMounts"] if mount["name"] == "recipe")
    assert entry[:3] == ["leeway", "doctor", f"{folder}/{RECIPE_FILE}"]
    arguments = [str(RECIPES / "quickstart.yaml"), *entry[3:], "-s", "ray.address=auto"]
    refused = CliRunner().invoke(cli, ["doctor", *arguments])
    assert isinstance(refused.exception, RecipeError) and "asks for none" in str(refused.exception)


def test_the_preflight_has_time_for_every_rank_that_may_send() -> None:
    ranks = ("cold_start=null", "learner.ranks=8", "learner.gpus=1")
    given = [
        named(measuring(built("multi-node-rdma"), recipe(*ranks, f"weights.senders={senders}")), "Job")["spec"]
        for senders in (1, 8)
    ]
    assert [spec["activeDeadlineSeconds"] for spec in given] == [
        PLACED_SECONDS + (senders + 1) * TEST_SECONDS + MARGIN_SECONDS for senders in (1, 8)
    ]


def test_what_runs_once_is_deleted_before_it_is_applied_again(whole: list[dict[str, Any]]) -> None:
    """An API server leaves a Job of the same name as it is, or refuses its new pods."""
    lines = (FOLDER / "README.md").read_text().splitlines()
    runs = {"--preflight": measuring(whole, recipe()), "render --overlay multi-node-rdma": whole}
    for said, found in runs.items():
        ((kind, name),) = [(d["kind"], d["metadata"]["name"]) for d in found if d["kind"] in ("Job", "RayJob")]
        applied = [n for n, line in enumerate(lines) if said in line and line.endswith(("apply -f -", "adds the run"))]
        assert applied, said
        assert {lines[n - 1] for n in applied} == {f"kubectl -n leeway delete {kind.lower()} {name} --ignore-not-found"}


def test_the_preflights_job_goes_by_itself_once_its_log_was_read(preflight: list[dict[str, Any]]) -> None:
    """That of a RayJob on a cluster that stays cannot: the operator allows it no time to live."""
    assert named(preflight, "Job")["spec"]["ttlSecondsAfterFinished"] >= 3600


def test_rays_autoscaler_starts_the_nodes_that_the_recipe_asks_for() -> None:
    for generators, verifiers, ranks in ((3, 2, 1), (1, 4, 2)):
        asked = recipe(
            f"generators.count={generators}",
            f"verifiers.count={verifiers}",
            f"learner.ranks={ranks}",
            "cold_start=null",
        )
        cluster = named(rendered("cpu-smoke", asked), "RayCluster")
        nodes, infeasible = launched(cluster, asked)
        assert (dict(nodes), infeasible) == ({"generator": generators, "verifier": verifiers, "learner": 1}, [])


SCORERS = "scorers={count: 3, gpus: 1, cpus: 2}"
REWARD = ("preferences.reward_model=/runs/reward", SCORERS)
TEACHER = (
    "distillation.teacher=/runs/teacher",
    "learner.objective.name=opd",
    "replay.drop_zero_variance=false",
    SCORERS,
)


@pytest.mark.parametrize("held", [REWARD, TEACHER], ids=["reward model", "teacher"])
def test_there_is_a_group_of_scorers_where_the_recipe_has_what_they_hold(
    whole: list[dict[str, Any]], held: tuple[str, ...]
) -> None:
    def groups(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {group["groupName"]: group for group in named(found, "RayCluster")["spec"]["workerGroupSpecs"]}

    assert "scorer" not in groups(whole)
    asked = recipe(*held)
    found = rendered("single-node-gpu", asked)
    group = groups(found)["scorer"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 1, 12)
    bounded = groups(rendered("single-node-gpu", recipe(*held, "autoscale.scorers={min: 2, max: 5}")))["scorer"]
    assert (bounded["replicas"], bounded["minReplicas"], bounded["maxReplicas"]) == (3, 2, 5)
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["nvidia.com/gpu"], limits["cpu"]) == ("1", "2")
    nodes, infeasible = launched(named(found, "RayCluster"), asked)
    assert (nodes["scorer"], infeasible) == (3, [])


@pytest.mark.parametrize("overlay", overlays())
def test_nothing_would_refuse_an_overlay_with_scorers(overlay: str) -> None:
    assert list(faults(rendered(overlay, recipe(*REWARD)))) == []


def test_verifiers_reach_the_scorers_and_these_have_the_servers_secret(whole: list[dict[str, Any]]) -> None:
    policy = named(whole, "NetworkPolicy", "scorer-from-verifier")["spec"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "scorer"
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": 20000, "endPort": 20100}]
    egress = named(whole, "NetworkPolicy", "verifier")["spec"]["egress"]
    assert rule["ports"] in [each["ports"] for each in egress]
    (group,) = (
        g for g in named(built("cpu-smoke"), "RayCluster")["spec"]["workerGroupSpecs"] if g["groupName"] == "scorer"
    )
    names = {each["name"] for each in group["template"]["spec"]["containers"][0]["env"]}
    assert {"LEEWAY_SERVER_SECRET", "LEEWAY_AUTHORIZED"} <= names


def test_rays_autoscaler_reads_of_the_base_what_its_groups_say() -> None:
    cluster = named(kustomized(FOLDER / "base"), "RayCluster")
    found = autoscaling(cluster)["available_node_types"]
    assert found.pop("headgroup")["resources"].items() >= {"CPU": 0, "leeway-head": 1}.items()
    assert set(found) == {"generator", "verifier", "learner", "scorer"}
    for group in cluster["spec"]["workerGroupSpecs"]:
        read, offered = found[group["groupName"]], {name: int(n) for name, n in group["resources"].items()}
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        memory = int(limits["memory"].removesuffix("Gi")) * 2**30
        assert read["resources"] == offered | {"CPU": int(limits["cpu"]), "memory": memory}
        assert read["labels"] == {"leeway-group": group["groupName"]}
        assert (read["min_workers"], read["max_workers"]) == (group["minReplicas"], group["maxReplicas"])
        assert read["idle_timeout_s"] == group["idleTimeoutSeconds"]


def test_a_pod_has_the_gpus_and_cpus_of_the_processes_that_it_takes() -> None:
    asked = recipe(
        "cold_start=null", "learner.ranks=4", "learner.gpus=1", "learner.cpus=2.5", "generators.drain_seconds=100"
    )
    groups = {g["groupName"]: g for g in named(rendered("cpu-smoke", asked), "RayCluster")["spec"]["workerGroupSpecs"]}
    amounts = groups["learner"]["template"]["spec"]["containers"][0]["resources"]
    assert (amounts["limits"]["nvidia.com/gpu"], amounts["limits"]["cpu"]) == ("4", "10")
    assert groups["generator"]["template"]["spec"]["terminationGracePeriodSeconds"] == 105


def test_a_resource_that_no_group_offers_is_infeasible() -> None:
    asked = dict(recipe().ray.resources) | {"generator": {"leeway-generatr": 1}}
    found = list(faults(rendered("cpu-smoke", recipe(f"ray.resources={json.dumps(asked)}"))))
    assert found == ["RayCluster: no group offers 1 CPU, 1 leeway-generatr"]


def _group(cluster: dict[str, Any], index: int = 0) -> dict[str, Any]:
    group: dict[str, Any] = cluster["spec"]["workerGroupSpecs"][index]
    return group


def _pod(cluster: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = _group(cluster)["template"]["spec"]
    return pod


CLUSTER: dict[str, Change] = {
    "additional properties": lambda c: c["spec"].update(workerGroups=[]),
    "is not of type": lambda c: _group(c).update(replicas="three"),
    "is not one of": lambda c: c["spec"]["autoscalerOptions"].update(version="v3"),
    "managedBy field value must be": lambda c: c["spec"].update(managedBy="me"),
    "more than 53 characters": lambda c: c["metadata"].update(name="x" * 54),
    "alpha gate": lambda c: c["spec"].update(tlsOptions={"enabled": True}),
    "two groups have one name": lambda c: _group(c).update(groupName="verifier"),
    "num-cpus in rayStartParams": lambda c: _group(c)["rayStartParams"].update({"num-cpus": "1"}),
    "labels in rayStartParams": lambda c: _group(c)["rayStartParams"].update(labels="a=b"),
    "needs autoscaler v2": lambda c: c["spec"]["autoscalerOptions"].update(version="v1"),
    "restartPolicy must be Never": lambda c: _pod(c).update(restartPolicy="Always"),
    "replicas is not between": lambda c: _group(c).update(replicas=99),
    "no /dev/shm": lambda c: _pod(c)["containers"][0].update(volumeMounts=[]),
    "does not declare port as-metrics": lambda c: c["spec"]["headGroupSpec"]["template"]["spec"]["containers"][
        0
    ].update(ports=[]),
    "offers CPUs": lambda c: c["spec"]["headGroupSpec"]["resources"].pop("CPU"),
    "the head does not offer": lambda c: c["spec"]["headGroupSpec"]["resources"].pop("leeway-head"),
    "need 1 pods, and replicas is 2": lambda c: _group(c).update(replicas=2),
    "hostNetwork is forbidden": lambda c: _pod(c).update(hostNetwork=True),
    "hostPath is forbidden": lambda c: _pod(c)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "hostPort is forbidden": lambda c: _pod(c)["containers"][0]["ports"][0].update(hostPort=1),
    "privileged is forbidden": lambda c: _pod(c)["containers"][0]["securityContext"].update(privileged=True),
    "must drop ALL": lambda c: _pod(c)["containers"][0]["securityContext"].pop("capabilities"),
    "IPC_LOCK are forbidden": lambda c: _pod(c)["containers"][0]["securityContext"]["capabilities"].update(
        add=["IPC_LOCK"]
    ),
    "allowPrivilegeEscalation": lambda c: _pod(c)["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "runAsNonRoot": lambda c: _pod(c)["securityContext"].pop("runAsNonRoot"),
    "seccompProfile": lambda c: _pod(c)["securityContext"].pop("seccompProfile"),
    "container autoscaler": lambda c: c["spec"]["autoscalerOptions"].pop("securityContext"),
}
JOB: dict[str, Change] = {
    "needs clusterSelector": lambda j: j["spec"].pop("clusterSelector"),
    "names the cluster": lambda j: j["spec"].update(clusterSelector={"a": "b"}),
    "/spec/shutdownAfterJobFinishes": lambda j: j["spec"].update(shutdownAfterJobFinishes=True),
    "needs shutdownAfterJobFinishes": lambda j: j["spec"].update(ttlSecondsAfterFinished=1),
    "have restartPolicy Never": lambda j: j["spec"]["submitterPodTemplate"]["spec"].update(restartPolicy="Always"),
    "deletionStrategy requires either": lambda j: j["spec"].update(deletionStrategy={}),
}
CORE: dict[str, Change] = {
    "only a number of minAvailable": lambda b: b["spec"].update(minAvailable="50%"),
    "Additional properties": lambda b: b["spec"].update(minimum=1),
    "has no such kind": lambda b: b.update(apiVersion="policy/v1beta1"),
}
PREFLIGHT: dict[str, Change] = {
    "takes no generateName": lambda j: j["metadata"].update(generateName=j["metadata"].pop("name") + "-"),
    "restartPolicy Never or OnFailure": lambda j: j["spec"]["template"]["spec"].update(restartPolicy="Always"),
    "'template' is a required property": lambda j: j["spec"].pop("template"),
    "Additional properties": lambda j: j["spec"].update(backOffLimit=0),
    "must drop ALL": lambda j: j["spec"]["template"]["spec"]["containers"][0]["securityContext"].pop("capabilities"),
}
KINDS = (("RayCluster", CLUSTER), ("RayJob", JOB), ("PodDisruptionBudget", CORE), ("Job", PREFLIGHT))
WRONG = [(kind, said, change) for kind, changes in KINDS for said, change in changes.items()]


@pytest.mark.parametrize(("kind", "said", "change"), WRONG, ids=[said for _, said, _ in WRONG])
def test_what_a_cluster_would_refuse_is_named(
    whole: list[dict[str, Any]], preflight: list[dict[str, Any]], kind: str, said: str, change: Change
) -> None:
    together = ("RayCluster", "ConfigMap") if kind == "RayCluster" else (kind,)
    found = [copy.deepcopy(named([*whole, *preflight], each)) for each in together]
    change(named(found, kind))
    assert [fault for fault in faults(found) if said.lower() in fault.lower()]


def test_verifiers_reach_the_replay_the_scorers_and_ray_on_the_head_and_nothing_else(
    whole: list[dict[str, Any]],
) -> None:
    ports = {
        (peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"], port["port"])
        for rule in named(whole, "NetworkPolicy", "verifier")["spec"]["egress"]
        for peer in rule["to"]
        for port in rule["ports"]
    }
    assert ports == {("learner", 5555), ("scorer", 20000), ("head", 6379), ("head", 10002)}
    denied = named(whole, "NetworkPolicy", "default-deny")["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_a_replay_in_shards_has_room_for_all_of_them_and_its_clients_a_way_to_each() -> None:
    found = rendered("two-clusters", recipe("replay.shards=4"))
    assert list(faults(found)) == []
    offered = [group["resources"] for group in named(found, "RayCluster")["spec"]["workerGroupSpecs"]]
    assert {one["leeway-replay"] for one in offered if "leeway-replay" in one} == {"4"}
    for policy, direction in (("verifier", "egress"), ("learner-from-verifier", "ingress")):
        ports = [p for rule in named(found, "NetworkPolicy", policy)["spec"][direction] for p in rule["ports"]]
        assert {"port": 5555, "endPort": 5558} in ports
    assert [p["port"] for p in named(found, "Service", "leeway-replay")["spec"]["ports"]] == [5555, 5556, 5557, 5558]


def test_what_render_prints_passes_check_and_a_fault_in_it_is_said_with_the_object() -> None:
    said = CliRunner().invoke(app, ["render", str(RECIPES / "quickstart.yaml"), "--overlay", "cpu-smoke"]).stdout
    assert CliRunner().invoke(app, ["check", "-"], input=said).stdout.endswith("objects, no fault\n")
    refused = CliRunner().invoke(app, ["check", "-"], input=said.replace("idleTimeoutSeconds: 300", "idleTimeout: 300"))
    assert "RayCluster/leeway" in refused.stderr
    assert isinstance(refused.exception, RunError)


def test_an_overlay_that_is_not_there_and_manifests_that_are_none_are_refused_in_one_line() -> None:
    with pytest.raises(RecipeError, match="cpu-smoke"):
        built("cpu-smok")
    for text, said in (("", "no manifests"), ("a: 1", "no apiVersion"), ("text", "no manifest")):
        with pytest.raises(RecipeError, match=said):
            list(faults(documents(text)))
