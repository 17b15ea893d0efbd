"""What only an operator or a controller would refuse, or never bring up: schemas and CRDs let it pass."""

from collections.abc import Iterator
from typing import Any

#: Of `rayStartParams`: what a group's `resources` says instead.
_AMOUNTS = {"num-cpus", "num-gpus", "memory", "resources"}
_LONGEST_NAME = 53
#: What a head must declare for itself to be scraped.
_HEAD_PORTS = {"as-metrics": 44217, "dash-metrics": 44227}


def cluster(document: dict[str, Any]) -> Iterator[str]:
    """The faults of a RayCluster."""
    spec = document["spec"]
    if len(document["metadata"]["name"]) > _LONGEST_NAME:
        yield f"/metadata/name: has more than {_LONGEST_NAME} characters"
    for gated in sorted({"networkPolicy", "tlsOptions"} & spec.keys()):
        yield f"/spec/{gated}: is refused without the operator's alpha gate"
    second = bool(spec.get("enableInTreeAutoscaling")) and spec.get("autoscalerOptions", {}).get("version") == "v2"
    names = [group["groupName"] for group in spec.get("workerGroupSpecs", [])]
    if len(names) != len(set(names)):
        yield "/spec/workerGroupSpecs: two groups have one name"
    for name, group in [("head", spec["headGroupSpec"]), *zip(names, spec.get("workerGroupSpecs", []), strict=True)]:
        yield from (f"group {name}: {fault}" for fault in _group(group, second))
    ports = {p.get("name"): p["containerPort"] for p in _ray(spec["headGroupSpec"]).get("ports", [])}
    for port, number in _HEAD_PORTS.items():
        if ports.get(port) != number:
            yield f"group head: does not declare port {port} {number}"
    if spec["headGroupSpec"].get("resources", {}).get("CPU") != "0":
        yield "group head: offers CPUs; set resources.CPU to 0, or actors land there and its memory ends"


def _group(group: dict[str, Any], second: bool) -> Iterator[str]:
    start = group.get("rayStartParams", {})
    if group.get("resources") and _AMOUNTS & start.keys():
        yield f"resources, and {', '.join(sorted(_AMOUNTS & start.keys()))} in rayStartParams"
    if "labels" in start:
        yield "labels in rayStartParams; use the group's labels"
    if "idleTimeoutSeconds" in group and not second:
        yield "idleTimeoutSeconds needs autoscaler v2"
    if second and group["template"]["spec"].get("restartPolicy") != "Never":
        yield "restartPolicy must be Never under autoscaler v2"
    if "replicas" in group and not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
        yield "replicas is not between minReplicas and maxReplicas"
    if not any(mount["mountPath"] == "/dev/shm" for mount in _ray(group).get("volumeMounts", [])):
        yield "no /dev/shm of its own: NCCL and Ray's objects need more than 64 MiB"


def job(document: dict[str, Any]) -> Iterator[str]:
    """The faults of a RayJob."""
    spec = document["spec"]
    if bool(spec.get("clusterSelector")) == bool(spec.get("rayClusterSpec")):
        yield "/spec: needs clusterSelector or rayClusterSpec, and not both"
    if spec.get("clusterSelector"):
        if "ray.io/cluster" not in spec["clusterSelector"]:
            yield "/spec/clusterSelector: ray.io/cluster names the cluster"
        for key in ("suspend", "shutdownAfterJobFinishes", "backoffLimit", "deletionStrategy"):
            if spec.get(key):
                yield f"/spec/{key}: does not go with clusterSelector"
    if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
        yield "/spec/ttlSecondsAfterFinished: needs shutdownAfterJobFinishes"
    if template := spec.get("submitterPodTemplate"):
        yield from (f"/spec/submitterPodTemplate: {fault}" for fault in _pods_of_a_job(template))


def core_job(document: dict[str, Any]) -> Iterator[str]:
    """The faults of a Job that its published schema does not hold."""
    yield from (f"/spec/template: {fault}" for fault in _pods_of_a_job(document["spec"]["template"]))


def _pods_of_a_job(template: dict[str, Any]) -> Iterator[str]:
    if template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
        yield "a Job's pods have restartPolicy Never or OnFailure"


def budget(document: dict[str, Any]) -> Iterator[str]:
    """The faults of a PodDisruptionBudget over pods of a RayCluster, which has no /scale."""
    if not isinstance(document["spec"].get("minAvailable"), int):
        yield "/spec: only a number of minAvailable works on pods of a RayCluster, which has no /scale"


def _ray(group: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = group["template"]["spec"]["containers"][0]
    return container


RULES = {"RayCluster": cluster, "RayJob": job, "Job": core_job, "PodDisruptionBudget": budget}
