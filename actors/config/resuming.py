"""What may change when a run resumes: every key of the tree is either applied from then on, or stays as it was.

A name stands for a key and for all keys under it; where several do, the longest decides. `tests` prove that every key
is in one of the two lists.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from actors.config.recipe import Recipe

#: What stays, and why: it is in the checkpoint or in the record, and a change would be ignored or make them untrue.
FIXED = {
    "name": "the run folder and its record have it",
    "output": "the run folder stays where it is",
    "seed": "weights from scratch, the order of the tasks and the random state follow from it",
    "model": "the checkpoint holds the weights of that model; where a folder has only moved, change it in recipe.yaml",
    "tasks": "the checkpoint's position counts the tasks of these sources, and the held-out ones are of their split; "
    "where a file has only moved, change it in recipe.yaml",
    "replay.shards": "journals, tasks and the checkpoint's position are shared out by it",
    "cold_start": "it is behind the checkpoint",
    "preferences": "the reward model is made before the first step",
    "distillation": "groups that wait to be trained have the log-probabilities of that teacher, or of none; where a "
    "folder has only moved, change it in recipe.yaml",
    "sample.tasks": "the sampling under way has that many",
    "sample.samples": "the sampling under way has that many completions a task",
    "learner.lora": "the checkpoint holds adapters of that form, or none",
    "learner.objective.name": "it sets defaults alone, and recipe.yaml has every part by now; change the parts",
    "evaluation.sampling": "the accuracy before training was measured with it, and the one after must be comparable",
}
#: Where the KL term is switched on later, nothing has kept what the policy was held close to.
NO_REFERENCE = "the checkpoint holds no reference policy, which is kept from the start where there is a KL term"

#: What is applied from the resume on.
APPLIED = frozenset(
    {
        "steps",
        "checkpoint_every_steps",
        "trackers",
        "tasks.max_prompt_tokens",
        "tasks.curriculum",
        "rewards",
        "observables",
        "sample",
        "preferences.reward_model",
        "preferences.judge",
        "preferences.weight",
        "preferences.clip",
        "preferences.dtype",
        "preferences.wait_seconds",
        "distillation.dtype",
        "distillation.wait_seconds",
        "generators",
        "replay.max_staleness",
        "replay.groups_per_batch",
        "replay.group_size",
        "replay.drop_zero_variance",
        "replay.lease_seconds",
        "replay.verify_lease_seconds",
        "replay.generation_attempts",
        "replay.verify_attempts",
        "replay.max_message_bytes",
        "replay.stragglers",
        "replay.journal",
        "replay.max_progress_bytes",
        "verifiers",
        "scorers",
        "sandbox",
        "learner.ranks",
        "learner.cpus",
        "learner.gpus",
        "learner.gpu_memory",
        "learner.collective_seconds",
        "learner.objective",
        "learner.optimizer",
        "learner.dtype",
        "learner.device",
        "learner.threads",
        "learner.micro_batch_tokens",
        "learner.logit_chunk_tokens",
        "learner.minibatches",
        "learner.epochs",
        "learner.backward_precision",
        "learner.gradient_checkpointing",
        "learner.fused_kernels",
        "learner.router_replay",
        "learner.lora.broadcast",
        "learner.checkpoint_keep_last",
        "learner.peak_teraflops",
        "learner.inspection_folder",
        "learner.max_non_finite_steps",
        "weights",
        "evaluation.every_steps",
        "evaluation.samples",
        "evaluation.keep_completions",
        "evaluation.samples_between",
        "evaluation.stall_seconds",
        "controller",
        "storage",
        "network",
        "membership",
        "ray",
        "autoscale",
    }
)
_TAG = re.compile(r"\[\w+\]")


def decides(key: str) -> str | None:
    """The name in the lists that decides about a key; None where there is none."""
    names = _TAG.sub("", key).split(".")
    stems = [".".join(names[:count]) for count in range(len(names), 0, -1)]
    return next((stem for stem in stems if stem in FIXED or stem in APPLIED), None)


def changes(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with both. A section that one of them lacks is one key, and so is a list."""
    return changes_of(before.model_dump(mode="json"), after.model_dump(mode="json"))


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """As `changes`, of two trees."""
    return dict(_changes("", before, after))


def _changes(key: str, before: Any, after: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield key, (before, after)
        return
    for name in before | after:
        yield from _changes(f"{key}.{name}" if key else name, before.get(name), after.get(name))


def refused(before: Recipe, after: Recipe) -> list[str]:
    """Every change that a run which resumes cannot make, as one line that says why."""
    found: dict[str, list[str]] = {}
    for key in changes(before, after):
        if (name := decides(key)) in FIXED:
            found.setdefault(str(name), []).append(key)
    lines = [f"{name if len(keys) > 1 else keys[0]}: {FIXED[name]}" for name, keys in found.items()]
    if before.learner.objective.kl == "none" != after.learner.objective.kl:
        lines.append(f"learner.objective.kl: {NO_REFERENCE}")
    return lines
