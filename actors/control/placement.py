"""What each role asks of the cluster: places, and time to leave them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from actors.config.cluster import PlacedRole
from actors.config.recipe import Recipe

#: The roles whose number of processes may change in a run, and whose processes may leave it.
Pool = Literal["generator", "verifier", "scorer"]
POOLS: tuple[Pool, ...] = get_args(Pool)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one process of a role reserves: CPUs and GPUs, which may be fractions, and custom resources."""

    cpus: float = 0.0
    gpus: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)


def resources(recipe: Recipe, role: str) -> Resources:
    """The reservation of one process of a role. The replay is bound by memory and shares a CPU."""
    joined = recipe.ray.address is not None
    custom = recipe.ray.resources.get(cast("PlacedRole", role), {}) if joined else {}
    match role:
        case "generator":
            g = recipe.generators
            return Resources(g.cpus, g.gpus * g.vllm.tensor_parallel_size, custom)
        case "verifier":
            return Resources(recipe.verifiers.cpus, custom=custom)
        case "scorer":
            return Resources(recipe.scorers.cpus, recipe.scorers.gpus, custom)
        case "learner":
            return Resources(recipe.learner.cpus, recipe.learner.gpus, custom)
        case _:
            return Resources(custom=custom)


def processes(recipe: Recipe, role: str) -> int:
    """How many processes of a role the recipe asks for at the start."""
    counts = {
        "generator": recipe.generators.count,
        "verifier": recipe.verifiers.count,
        "scorer": recipe.scorers.count if recipe.has_scorers else 0,
        "learner": recipe.learner.ranks,
        "replay": recipe.replay.shards,
    }
    return counts.get(role, 1)


def leave_seconds(recipe: Recipe, role: str) -> float:
    """How long a process of a pool may take to finish what it has begun, once it is told to leave (s). Nobody waits
    for a score longer than a verifier has for a group."""
    return recipe.generators.drain_seconds if role == "generator" else recipe.verifiers.deadline_seconds
