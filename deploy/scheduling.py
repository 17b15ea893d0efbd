"""What Ray's own autoscaler makes of a RayCluster and of the processes that a recipe asks for."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.control.placement import processes, resources
from deploy.render import GROUPS, RECIPE_FILE, RECIPE_MAP


def recipe_of(documents: list[dict[str, Any]]) -> Recipe | None:
    """The recipe that the manifests carry."""
    for document in documents:
        if document["kind"] == "ConfigMap" and document["metadata"]["name"] == RECIPE_MAP:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / RECIPE_FILE
                path.write_text(document["data"][RECIPE_FILE], encoding="utf-8")
                return load(path)
    return None


def demand(recipe: Recipe, role: str) -> dict[str, float]:
    """What one actor of a role asks of Ray; nothing of what it asks 0 of."""
    wanted = resources(recipe, role)
    return {k: v for k, v in {"CPU": wanted.cpus, "GPU": wanted.gpus, **wanted.custom}.items() if v}


def autoscaling(cluster: dict[str, Any]) -> dict[str, Any]:
    """What Ray's autoscaler reads of a RayCluster in a namespace.

    Returns:
        Its configuration. `available_node_types` has the groups, the head as `headgroup`: `resources`, `labels`,
        `min_workers`, `max_workers`, and `idle_timeout_s` where a group has one of its own.
    """
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    found: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(cluster)
    return found


def launched(cluster: dict[str, Any], recipe: Recipe) -> tuple[Counter[str], list[dict[str, float]]]:
    """How many nodes of each group Ray would start for the recipe from nothing, and the requests that no node fits."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    config = AutoscalingConfig(autoscaling(cluster), skip_content_hash=True)
    kinds = config.get_node_type_configs()
    for kind in kinds.values():
        kind.min_worker_nodes = 0  # what the recipe needs, and not what stands there anyway
    wanted = [demand(recipe, role) for role in (*GROUPS, "replay") for _ in range(processes(recipe, role))]
    requests = [ResourceRequestUtil.make(each) for each in wanted]
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=kinds,
            max_num_nodes=config.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(requests),
        )
    )
    infeasible = [dict(request.resources_bundle) for request in reply.infeasible_resource_requests]
    return Counter({each.instance_type: each.count for each in reply.to_launch}), infeasible


def faults(cluster: dict[str, Any], recipe: Recipe) -> Iterator[str]:
    """Where recipe and cluster disagree."""
    head = cluster["spec"]["headGroupSpec"].get("resources", {})
    for name, amount in demand(recipe, "controller").items():
        if float(head.get(name, 0)) < amount:
            yield f"the controller asks for {amount:g} {name}, which the head does not offer"
    nodes, infeasible = launched(cluster, recipe)
    for request in infeasible:
        yield f"no group offers {', '.join(f'{amount:g} {name}' for name, amount in sorted(request.items()))}"
    if infeasible:
        return
    for group in cluster["spec"]["workerGroupSpecs"]:
        name = group["groupName"]
        if nodes[name] != group.get("replicas", 0):
            yield f"group {name}: the recipe's actors need {nodes[name]} pods, and replicas is {group['replicas']}"
