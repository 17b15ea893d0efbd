"""nccl-tests over the ranks that broadcast weights: each of the learner's that sends some, with every worker of every
generator.

Actors of Ray take the places that those of a run will take, so it needs a cluster in which no run is under way.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.config.network import NetworkConfig
from actors.config.recipe import Recipe
from actors.control.cluster import imported_ray, not_joined
from actors.control.placement import processes, resources
from actors.doctor.launch import launched
from actors.errors import RecipeError, RunError
from actors.transport.address import resolve
from actors.weights.senders import senders_of

#: The one whose bandwidth is judged and kept, and one that shows what is wrong where only the other direction is.
BROADCAST, ALL_REDUCE = "broadcast_perf", "all_reduce_perf"
#: What a rank's process is given of the environment: its report repeats it, and keys and tokens are not for it.
KEPT = ("PATH", "HOME", "LD_LIBRARY_PATH")
KEPT_PREFIXES = ("NCCL_", "UCX_", "FI_")
#: Longest wait for the places (s): a pod may have to be started; for one test; for what an actor does at once.
PLACED_SECONDS, TEST_SECONDS, ANSWER_SECONDS = 900.0, 600.0, 60.0


class Placeholder:
    """An actor where a rank of the learner or a generator will be."""

    def __init__(self, report: str, network: NetworkConfig) -> None:
        self._report, self._network = Path(report), network

    def ready(self) -> str:
        """Returns once the actor has its place: the address that tells its node from others."""
        return resolve(self._network, in_cluster=True).advertise

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


@dataclass(frozen=True, slots=True)
class Reports:
    """What nccl-tests has written.

    Attributes:
        broadcasts: from each rank of the learner that sends, by its name.
        all_reduce: between the first of them and the generators.
    """

    broadcasts: Mapping[str, bytes]
    all_reduce: bytes


def measured(recipe: Recipe) -> Reports:
    """The reports of both tests, in the recipe's Ray cluster. One sender is measured after the other.

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
        ranks = _candidates(recipe)
        places += [_place(ray, recipe, "learner", report) for _ in range(ranks)]
        places += [_place(ray, recipe, "generator", report) for _ in range(processes(recipe, "generator"))]
        addresses = [place.ready.remote() for place in places]
        here, _ = ray.wait(addresses, num_returns=len(places), timeout=PLACED_SECONDS)
        if len(here) < len(places):
            missing = f"{len(places) - len(here)} of {len(places)} places were not to be had"
            raise RunError(f"{missing} within {PLACED_SECONDS:g} s: does a run hold them, or are nodes missing?")
        nodes = ray.get(addresses[:ranks], timeout=ANSWER_SECONDS)
        senders = {
            "learner" if rank == 0 else f"learner-rank-{rank}": PlacedRank(ray, places[rank], 0, f"learner rank {rank}")
            for rank in senders_of(nodes, recipe.weights.senders)
        }
        workers = range(recipe.generators.vllm.tensor_parallel_size)
        receivers = [
            PlacedRank(ray, place, worker, f"generator {number}, worker {worker}")
            for number, place in enumerate(places[ranks:], 1)
            for worker in workers
        ]
        return Reports(
            {name: _report(ray, BROADCAST, [first, *receivers], recipe, report) for name, first in senders.items()},
            _report(ray, ALL_REDUCE, [senders["learner"], *receivers], recipe, report),
        )
    except ray.exceptions.RayError as error:
        raise RunError(f"Ray: {' '.join(str(error).split())[-300:]}") from error
    finally:
        for place in places:
            ray.kill(place)
        ray.shutdown()


def longest(recipe: Recipe) -> float:
    """How long it may take at the most (s): places, a broadcast from each rank that may send, and an all-reduce."""
    return PLACED_SECONDS + TEST_SECONDS * (
        min(_candidates(recipe), recipe.weights.senders or recipe.learner.ranks) + 1
    )


def _candidates(recipe: Recipe) -> int:
    """Ranks of the learner among which those that send are chosen, by their nodes."""
    return 1 if recipe.learner.sends_adapters or recipe.weights.senders == 1 else recipe.learner.ranks


def _place(ray: Any, recipe: Recipe, role: str, report: str) -> Any:
    wanted = resources(recipe, role)
    options = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "resources": dict(wanted.custom)}
    return ray.remote(Placeholder).options(**options).remote(report, recipe.network)


def _report(ray: Any, test: str, ranks: Sequence[PlacedRank], recipe: Recipe, report: str) -> bytes:
    size = str(recipe.weights.bucket_bytes)
    launched([test, "-b", size, "-e", size, "-g", "1", "-J", report], ranks, _address(ray), TEST_SECONDS)
    return ranks[0].report()


def _address(ray: Any) -> str:
    return str(ray.util.get_node_ip_address())
