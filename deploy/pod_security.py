"""The `restricted` Pod Security Standard: what admission would refuse in a namespace that enforces it."""

from collections.abc import Iterator
from typing import Any

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_PROFILES = ("RuntimeDefault", "Localhost")


def pods(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod specification in an object, wherever it stands, with its path."""
    yield from _pods(document, "")


def _pods(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield path, value
        for key, inner in value.items():
            yield from _pods(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _pods(inner, f"{path}/{position}")


def refused(pod: dict[str, Any]) -> Iterator[str]:
    """The faults of one pod."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is forbidden"
    for volume in pod.get("volumes", []):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}: {kind} is forbidden"
    common = pod.get("securityContext", {})
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        own = container.get("securityContext", {})
        name = f"container {container['name']}"
        yield from (f"{name}: {fault}" for fault in _context(common | own, own))
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name}: hostPort is forbidden"


def autoscaler(cluster: dict[str, Any]) -> Iterator[str]:
    """The faults of the container that the operator adds to the head's pod."""
    spec = cluster["spec"]
    if spec.get("enableInTreeAutoscaling"):
        own = spec.get("autoscalerOptions", {}).get("securityContext", {})
        common = spec["headGroupSpec"]["template"]["spec"].get("securityContext", {})
        yield from (f"container autoscaler: {fault}" for fault in _context(common | own, own))


def _context(whole: dict[str, Any], own: dict[str, Any]) -> Iterator[str]:
    if own.get("privileged"):
        yield "privileged is forbidden"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation must be false"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities must drop ALL"
    if more := set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"capabilities {', '.join(sorted(more))} are forbidden"
    if whole.get("runAsNonRoot") is not True or whole.get("runAsUser") == 0:
        yield "runAsNonRoot must be true, and runAsUser not 0"
    if whole.get("seccompProfile", {}).get("type") not in _PROFILES:
        yield "seccompProfile must be RuntimeDefault or Localhost"
