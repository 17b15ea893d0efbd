"""What each role asks of the cluster."""

from dataclasses import dataclass

from actors.config.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Resources:
    """What one process of a role reserves: CPUs and GPUs, which may be fractions."""

    cpus: float = 0.0
    gpus: float = 0.0


def resources(recipe: Recipe, role: str) -> Resources:
    """The reservation of one process of a role. The replay is bound by memory and shares a CPU."""
    match role:
        case "generator":
            g = recipe.generators
            return Resources(g.cpus, g.gpus * g.vllm.tensor_parallel_size)
        case "verifier":
            return Resources(recipe.verifiers.cpus)
        case "learner":
            return Resources(recipe.learner.cpus, recipe.learner.gpus)
        case _:
            return Resources()


def processes(recipe: Recipe, role: str) -> int:
    """How many processes of a role the recipe asks for at the start."""
    counts = {"generator": recipe.generators.count, "verifier": recipe.verifiers.count, "learner": recipe.learner.ranks}
    return counts.get(role, 1)
