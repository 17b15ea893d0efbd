"""The memory table of a recipe: what every kind of process holds, on which device, and whether it fits there."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from actors.config.base import Location
from actors.config.model import FolderModel
from actors.config.recipe import Recipe
from actors.errors import RecipeError
from actors.planning.architectures import ModelShape, architecture
from actors.planning.memory import (
    MicroBatch,
    checkpoint_beside,
    generator_device,
    learner_host,
    learner_rank,
    loading,
    scorer_device,
)

SHARE = "raise learner.ranks, or set learner.lora, or, on GPUs, learner.optimizer.offload: cpu"
#: What to change where a part is the largest of what does not fit.
KEYS: Mapping[str, str] = {
    "weights": SHARE,
    "gradients": SHARE,
    "moments": SHARE,
    "reference": "set learner.objective.kl: none, or learner.lora, whose reference is adapters",
    "gathered layers": "take a smaller model: a layer of this one has to be whole on every rank",
    "activations": "lower learner.micro_batch_tokens, or set learner.gradient_checkpointing: true",
    "output layer": "lower learner.logit_chunk_tokens",
    "staging": "set learner.lora with broadcast: adapters, whose updates are small, or raise weights.senders",
    "checkpoint": "raise learner.ranks, or set checkpoint_every_steps: 0, so that none is written beside a step",
    "allocator": "lower learner.micro_batch_tokens",
    "learner": "lower learner.ranks or learner.micro_batch_tokens, or take a smaller model",
    "generators": "lower generators.count or generators.vllm.kv_cache_gib",
    "scorers": "lower scorers.count, or take a smaller model to score by",
}
#: The same of a scorer.
SCORER_KEYS: Mapping[str, str] = {
    "weights": "take a smaller model to score by: each scorer holds it whole",
    "activations": "lower scorers.batch_tokens",
    "output layer": "lower learner.logit_chunk_tokens",
    "allocator": "lower scorers.batch_tokens",
}
#: What grows with the tokens of one pass.
OF_A_PASS = ("activations", "allocator")
#: The same of an engine, whatever is the largest part of it.
ENGINE_KEY = "raise generators.vllm.tensor_parallel_size or generators.vllm.gpu_memory_utilization"
#: Rows of the table that are asked for again.
FIRST_RANK, OTHER_SENDERS, OTHER_RANKS = "learner, first rank", "learner, other senders", "learner, other ranks"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What is in memory of one kind of device.

    Attributes:
        name: of the kind.
        parts: bytes by what it is.
        capacity: of the device (bytes); None: not known.
        whole: tokens of a sequence that is longer than a micro-batch; 0 where none is.
    """

    name: str
    parts: Mapping[str, float]
    capacity: float | None
    whole: int = 0

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether it fits, as far as is known; an engine also needs a cache."""
        within = self.capacity is None or self.total <= self.capacity
        return within and self.parts.get("key-value cache", 1.0) > 0

    @property
    def advice(self) -> str:
        """What does not fit, by how much, and which key to change; for one that does not fit."""
        there = "" if self.capacity is None else f" of {self.capacity / 1e9:.3g} GB"
        keys = SCORER_KEYS if self.name == "scorer" else KEYS
        largest = max(self.parts, key=lambda p: self.parts[p])
        key = ENGINE_KEY if "key-value cache" in self.parts else keys[largest]
        if self.whole and largest in OF_A_PASS:
            key = (
                f"a sequence of {self.whole} tokens goes through whole, however low learner.micro_batch_tokens is; set "
                "learner.gradient_checkpointing: true, or lower generators.sampling.max_tokens"
            )
        return f"{self.name} takes {self.total / 1e9:.3g} GB{there}: {key}"


def places(recipe: Recipe, a: ModelShape, gpu: float, core: float | None) -> Sequence[Footprint]:
    """The memory table: the learner's ranks by what they do, one as it loads, a device of a generator, a scorer.

    A rank on a GPU also takes memory of its host, the first one most; how much there is is not known where a recipe is
    only checked.

    Args:
        recipe: of the run; `learner.gpu_memory` goes before `gpu`.
        a: the model.
        gpu: memory of a GPU (bytes).
        core: what a process without a GPU may take (bytes); None: not known.
    """
    learner, longest = recipe.learner, recipe.generators.sampling.max_tokens
    own = gpu if learner.gpu_memory is None else 1e9 * learner.gpu_memory
    there = own if learner.gpus else core
    batch = MicroBatch(recipe.tasks.max_prompt_tokens, longest, recipe.replay.group_size, learner.micro_batch_tokens)
    found = []
    senders = senders_of(recipe)
    for name in learner_ranks(recipe):
        parts = learner_rank(a, learner, batch, 0.0 if name == OTHER_RANKS else 1 / senders)
        if not learner.gpus:
            parts["checkpoint"] = checkpoint_beside(a, learner, parts, recipe.checkpoint_every_steps)
        found.append(Footprint(name, parts, there, batch.whole))
    if learner.shards:
        found.append(Footprint("learner, loading", loading(a, learner), there))
    if learner.gpus:
        found.append(Footprint("host, first rank", learner_host(a, learner, 1 / senders), None))
    if recipe.generators.engine != "synthetic":
        device = generator_device(a, recipe.generators, gpu)
        found.append(Footprint("generator", device, gpu if recipe.generators.gpus else core))
    if recipe.has_scorers:
        found.append(Footprint("scorer", _scorer(recipe, a), gpu if recipe.scorers.gpus else core))
    return found


def senders_of(recipe: Recipe) -> int:
    """Ranks of the learner that share out the weights that are sent; one where that is left to the nodes, of which a
    recipe does not say how many there will be."""
    return 1 if recipe.learner.sends_adapters else recipe.weights.senders or 1


def learner_ranks(recipe: Recipe) -> dict[str, int]:
    """The learner's rows of the table, and how many ranks each stands for."""
    senders = senders_of(recipe)
    rows = {FIRST_RANK: 1, OTHER_SENDERS: senders - 1, OTHER_RANKS: recipe.learner.ranks - senders}
    return {name: count for name, count in rows.items() if count}


def _scorer(recipe: Recipe, a: ModelShape) -> dict[str, float]:
    """What a scorer holds. Its model is taken to be as large as the run's where its own is not known yet."""
    if (taught := recipe.distillation) is not None:
        return scorer_device(_at(taught.teacher, a), recipe.scorers, taught.dtype, recipe.learner.logit_chunk_tokens)
    assert recipe.preferences is not None
    folder = recipe.preferences.reward_model or recipe.preferences.base
    return scorer_device(_at(folder, a), recipe.scorers, recipe.preferences.dtype, logit_chunk_tokens=0)


def _at(folder: Location | None, otherwise: ModelShape) -> ModelShape:
    if folder is not None:
        with suppress(RecipeError):
            return architecture(FolderModel(path=str(folder)))
    return otherwise


def on_this_machine(recipe: Recipe, found: Sequence[Footprint], memory: float) -> Footprint | None:
    """What those without a GPU hold together on a machine of so much memory (bytes); None where nobody is.

    Imports, the replay and verifiers are not counted: what does not fit without them cannot fit.
    """
    parts: dict[str, float] = {}
    ranks = learner_ranks(recipe)
    for place in found:
        if place.name == "generator" and not recipe.generators.gpus:
            parts["generators"] = recipe.generators.count * place.total
        elif place.name in ranks and not recipe.learner.gpus:
            parts["learner"] = parts.get("learner", 0.0) + ranks[place.name] * place.total
        elif place.name == "scorer" and not recipe.scorers.gpus:
            parts["scorers"] = recipe.scorers.count * place.total
    return Footprint("this machine", parts, memory) if parts else None


def machine_memory() -> float:
    """Memory of this machine, or what this process's control group may take of it (bytes)."""
    found = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # absent, or `max`
            found = min(found, float(int(Path(limit).read_text())))
    return found
