"""An overlay, with sizes, counts and resources from a recipe, so that recipe and cluster cannot disagree."""

import math
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from actors.config.loading import dump
from actors.config.recipe import Recipe
from actors.control.placement import POOLS, leave_seconds, processes, resources
from actors.doctor.preflight import longest
from actors.errors import RecipeError, RunError
from deploy import outside

FOLDER = Path(__file__).resolve().parent
#: The groups of the RayCluster, which are roles of the recipe.
GROUPS = ("generator", "verifier", "learner", "scorer")
#: What a custom resource and the file of the ConfigMap are called.
OFFERED, RECIPE_MAP, RECIPE_FILE = "leeway-{}", "leeway-recipe", "recipe.yaml"
#: How far a pool without bounds of its own may be scaled: times its size at the start.
HEADROOM = 4
#: A pod is killed this long after its actors had to be done (s).
MARGIN_SECONDS = 5
#: Of the replay's first shard.
REPLAY_PORT = 5555
#: What a recipe needs in a cluster, see deploy/base/recipe.yaml.
OVERRIDES = (
    "output=/runs",
    "ray.address=auto",
    "ray.resources={controller: {leeway-head: 1}, replay: {leeway-replay: 1}, generator: {leeway-generator: 1}, "
    "verifier: {leeway-verifier: 1}, scorer: {leeway-scorer: 1}, learner: {leeway-learner: 1}}",
    f"network.ports={{range: [20000, 20100], status: 8090, replay: {REPLAY_PORT}}}",
)
Document = dict[str, Any]


def overlays() -> list[str]:
    """The names of all overlays."""
    return sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml"))


def built(overlay: str) -> list[Document]:
    """What `kubectl kustomize` makes of an overlay.

    Raises:
        RecipeError: there is no such overlay, or no kubectl.
        RunError: kubectl refuses.
    """
    if overlay not in overlays():
        raise RecipeError(f"--overlay: {overlay!r} is none of {', '.join(overlays())}")
    return kustomized(FOLDER / "overlays" / overlay)


def kustomized(folder: Path) -> list[Document]:
    """The objects of a kustomization; raises as `built` does."""
    command = ["kubectl", "kustomize", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError as error:
        raise RecipeError("kubectl is needed to build an overlay: install it, version 1.27 or later") from error
    if done.returncode:
        raise RunError(f"{' '.join(command)}: {done.stderr.strip()}")
    return documents(done.stdout)


def documents(text: str) -> list[Document]:
    """The objects of a stream of YAML documents."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def rendered(overlay: str, recipe: Recipe) -> list[Document]:
    """The objects of an overlay, fitted to a recipe."""
    found = built(overlay)
    for document in found:
        match document["kind"], document["metadata"]["name"]:
            case "RayCluster", _:
                _fit(document["spec"], recipe)
            case "ConfigMap", name if name == RECIPE_MAP:
                document["data"] = {RECIPE_FILE: dump(recipe)}
            case "NetworkPolicy" | "Service", _:
                _open(document["spec"], recipe.replay.shards)
            case "PodDisruptionBudget", "leeway-learner":
                document["spec"]["minAvailable"] = -(-recipe.learner.ranks // _capacity(_group(found, "learner")))
    namespace = {"namespace": _cluster(found)["metadata"]["namespace"]}
    return found + [each | {"metadata": namespace | each["metadata"]} for each in outside.policies(recipe)]


def measuring(found: list[Document], recipe: Recipe) -> list[Document]:
    """An overlay rendered for a recipe that measures its network in the place of running it."""
    job = kustomized(FOLDER / "preflight")
    for document in job:
        if document["kind"] == "Job":
            document["spec"]["activeDeadlineSeconds"] = math.ceil(longest(recipe)) + MARGIN_SECONDS
    return [document for document in found if document["kind"] != "RayJob"] + job


def _group(found: list[Document], name: str) -> Document:
    return next(group for group in _cluster(found)["spec"]["workerGroupSpecs"] if group["groupName"] == name)


def _cluster(found: list[Document]) -> Document:
    return next(document for document in found if document["kind"] == "RayCluster")


def _capacity(group: Mapping[str, Any]) -> int:
    """How many processes one pod of a group takes."""
    return int(group["resources"][OFFERED.format(group["groupName"])])


def _fit(spec: Document, recipe: Recipe) -> None:
    head = spec["headGroupSpec"]["template"]["spec"]
    head["terminationGracePeriodSeconds"] = math.ceil(recipe.controller.wind_down_seconds) + MARGIN_SECONDS
    if not recipe.has_scorers:
        spec["workerGroupSpecs"] = [g for g in spec["workerGroupSpecs"] if g["groupName"] != "scorer"]
    for group in spec["workerGroupSpecs"]:
        role = group["groupName"]
        if OFFERED.format("replay") in group["resources"]:
            group["resources"][OFFERED.format("replay")] = str(recipe.replay.shards)
        if role in GROUPS:
            _size(group, recipe, role, spec.get("enableInTreeAutoscaling", False))
            pod = group["template"]["spec"]
            if role in POOLS:  # they are told to leave before their pod is stopped
                pod["terminationGracePeriodSeconds"] = math.ceil(leave_seconds(recipe, role)) + MARGIN_SECONDS
            if role == "verifier" and (judge := recipe.judge) is not None:
                pod["containers"][0]["env"] += outside.judge_key(judge)


def _open(spec: Document, shards: int) -> None:
    """Whoever may reach the replay may reach all of its shards, which have the ports that follow."""
    for port in [port for port in spec.get("ports", ()) if port["port"] == REPLAY_PORT]:
        named = ({"name": f"{port['name']}-{n}", "port": REPLAY_PORT + n} for n in range(1, shards))
        spec["ports"] += [port | each for each in named]
    rules = (*spec.get("ingress", ()), *spec.get("egress", ()))
    for port in (port for rule in rules for port in rule.get("ports", ())):
        if port["port"] == REPLAY_PORT and shards > 1:
            port["endPort"] = REPLAY_PORT + shards - 1


def _size(group: Document, recipe: Recipe, role: str, scales: bool) -> None:
    count, wanted = processes(recipe, role), resources(recipe, role)
    each = max(1, min(_capacity(group), count))
    group["resources"][OFFERED.format(role)] = str(each)
    pods = -(-count // each)
    least, most = (pods, pods) if role == "learner" else (min(1, pods), HEADROOM * pods)
    if recipe.autoscale is not None and (bounds := recipe.autoscale.bounds(role)) is not None:
        least, most = -(-bounds.min // each), max(pods, -(-bounds.max // each))
    group |= {"replicas": pods, "minReplicas": least if scales else pods, "maxReplicas": most}
    amounts = group["template"]["spec"]["containers"][0]["resources"]
    cpus = str(max(1, math.ceil(wanted.cpus * each)))
    gpus = math.ceil(wanted.gpus * each)
    for kind in ("requests", "limits"):
        amounts[kind]["cpu"] = cpus
        amounts[kind].pop("nvidia.com/gpu", None)
        if gpus:
            amounts[kind]["nvidia.com/gpu"] = str(gpus)
