"""nccl-tests over the ranks that broadcast weights: the learner's first, and every worker of every generator.

Actors of Ray take the places that those of a run will take, so it needs a cluster in which no run is under way.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.config.recipe import Recipe
from actors.control.cluster import imported_ray, not_joined
from actors.control.placement import processes, resources
from actors.doctor.launch import launched
from actors.errors import RecipeError, RunError

#: The one whose bandwidth is judged and kept, and one that shows what is wrong where only the other direction is.
BROADCAST, ALL_REDUCE = "broadcast_perf", "all_reduce_perf"
#: What a rank's process is given of the environment: its report repeats it, and keys and tokens are not for it.
KEPT = ("PATH", "HOME", "LD_LIBRARY_PATH")
KEPT_PREFIXES = ("NCCL_", "UCX_", "FI_")
#: Longest wait for the places (s): a pod may have to be started; for one test; for what an actor does at once.
PLACED_SECONDS, TEST_SECONDS, ANSWER_SECONDS = 900.0, 600.0, 60.0


class Placeholder:
    """An actor where the learner's first rank or a generator will be."""

    def __init__(self, report: str) -> None:
        self._report = Path(report)

    def ready(self) -> None:
        """Returns once the actor has its place."""

    def start(self, command: Sequence[str], worker: int) -> None:
        """Run a command in the background, which ends with mpiexec; it sees one GPU of this place, a worker's."""
        subprocess.Popen(command, env=environment_of(os.environ, worker), stdin=subprocess.DEVNULL)

    def report(self) -> bytes:
        """What the first rank has written; it is deleted."""
        data = self._report.read_bytes()
        self._report.unlink()
        return data


def environment_of(whole: Mapping[str, str], worker: int) -> dict[str, str]:
    """The part of an environment that a worker's rank is given, with its GPU alone."""
    gpus = whole.get("CUDA_VISIBLE_DEVICES", "").split(",")
    kept = {name: value for name, value in whole.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    # NCCL_TESTS_DEVICE: nccl-tests would count the ranks of a machine, and each sees one GPU
    return kept | {"CUDA_VISIBLE_DEVICES": gpus[min(worker, len(gpus) - 1)], "NCCL_TESTS_DEVICE": "0"}


@dataclass(frozen=True, slots=True)
class PlacedRank:
    """One worker of a place; `name` says whose."""

    ray: Any
    place: Any
    worker: int
    name: str

    def start(self, command: Sequence[str]) -> None:
        """Run a command there, in the background. Raises RunError where the place does not answer."""
        self._answer(self.place.start.remote(list(command), self.worker))

    def report(self) -> bytes:
        """What the first rank has written. Raises RunError likewise."""
        found: bytes = self._answer(self.place.report.remote())
        return found

    def _answer(self, asked: Any) -> Any:
        try:
            return self.ray.get(asked, timeout=ANSWER_SECONDS)
        except self.ray.exceptions.GetTimeoutError as error:
            raise RunError(
                f"the place of {self.name} did not answer within {ANSWER_SECONDS:g} s: its process hangs, or its node "
                "is cut off; see `ray list nodes` and `ray list actors`"
            ) from error


def measured(recipe: Recipe) -> dict[str, bytes]:
    """The reports of both tests, in the recipe's Ray cluster.

    Raises:
        RecipeError: the recipe names no cluster, or has no GPUs to measure between.
        RunError: places are not to be had, or a test failed.
    """
    if recipe.ray.address is None:
        raise RecipeError("ray.address: is needed, since the ranks are measured in the run's cluster")
    if not (resources(recipe, "learner").gpus and resources(recipe, "generator").gpus):
        raise RecipeError("generators.gpus, learner.gpus: NCCL is measured between GPUs, and the recipe asks for none")
    ray = imported_ray(recipe.ray.address)
    try:
        ray.init(address=recipe.ray.address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # Ray raises bare exceptions
        raise not_joined(recipe.ray.address, error) from error
    places: list[Any] = []
    try:
        report = f"/tmp/leeway-preflight-{os.getpid()}.json"
        places += [_place(ray, recipe, "learner", report)]
        places += [_place(ray, recipe, "generator", report) for _ in range(processes(recipe, "generator"))]
        here, _ = ray.wait([p.ready.remote() for p in places], num_returns=len(places), timeout=PLACED_SECONDS)
        if len(here) < len(places):
            missing = f"{len(places) - len(here)} of {len(places)} places were not to be had"
            raise RunError(f"{missing} within {PLACED_SECONDS:g} s: does a run hold them, or are nodes missing?")
        ranks = [PlacedRank(ray, places[0], 0, "the learner's first rank")]
        workers = range(recipe.generators.vllm.tensor_parallel_size)
        for number, place in enumerate(places[1:], 1):
            ranks += [PlacedRank(ray, place, worker, f"generator {number}, worker {worker}") for worker in workers]
        return {test: _report(ray, test, ranks, recipe, report) for test in (BROADCAST, ALL_REDUCE)}
    except ray.exceptions.RayError as error:
        raise RunError(f"Ray: {' '.join(str(error).split())[-300:]}") from error
    finally:
        for place in places:
            ray.kill(place)
        ray.shutdown()


def _place(ray: Any, recipe: Recipe, role: str, report: str) -> Any:
    wanted = resources(recipe, role)
    options = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "resources": dict(wanted.custom)}
    return ray.remote(Placeholder).options(**options).remote(report)


def _report(ray: Any, test: str, ranks: Sequence[PlacedRank], recipe: Recipe, report: str) -> bytes:
    size = str(recipe.weights.bucket_bytes)
    launched([test, "-b", size, "-e", size, "-g", "1", "-J", report], ranks, _address(ray), TEST_SECONDS)
    return ranks[0].report()


def _address(ray: Any) -> str:
    return str(ray.util.get_node_ip_address())
