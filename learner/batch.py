"""What the learner trains on: groups of completions that answer the same prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from learner.errors import BatchError

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
# Engines round: a probability of one may come back as a logprob slightly above zero.
LOGPROB_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer o_i of T tokens.

    Attributes:
        tokens: int32 [T], the sampled token ids, the end-of-sequence token included when it was sampled.
        logprobs: float32 [T], log mu(o_t | q, o_<t) in nats: the engine's logprob of each sampled token under the
            distribution it was sampled from, i.e. at the sampling temperature (`Trainer.train_step(temperature=...)`).
        versions: int32 [T], the policy version that sampled each token.
        reward: scalar reward of the whole completion.
        truncated: whether the length limit ended it.
        parts: the parts that the reward was made of, by name, unweighted; statistics only, the loss reads `reward`.
    """

    tokens: Int32
    logprobs: Float32
    versions: Int32
    reward: float
    truncated: bool = False
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """G completions of one prompt q: int32 [P] token ids, shared by all of them."""

    prompt: Int32
    completions: tuple[Completion, ...]
    id: int = 0


def save_groups(groups: Sequence[Group], file: Path) -> None:
    """Write groups to a .npz of plain arrays: prompts, tokens, logprobs and versions end to end, with their lengths.

    `parts` has a row a completion and a column a name of `part_names`, nan where a completion lacks that part.
    """
    completions = [c for g in groups for c in g.completions]
    names = sorted({name for c in completions for name in c.parts})
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        file,
        group_ids=np.array([g.id for g in groups]),
        group_sizes=np.array([len(g.completions) for g in groups]),
        prompts=np.concatenate([g.prompt for g in groups]),
        prompt_lengths=np.array([len(g.prompt) for g in groups]),
        tokens=np.concatenate([c.tokens for c in completions]),
        logprobs=np.concatenate([c.logprobs for c in completions]),
        versions=np.concatenate([c.versions for c in completions]),
        lengths=np.array([len(c.tokens) for c in completions]),
        rewards=np.array([c.reward for c in completions]),
        truncated=np.array([c.truncated for c in completions]),
        part_names=np.array(names, dtype=str),
        parts=np.array([[c.parts.get(name, np.nan) for name in names] for c in completions]),
    )


def load_groups(file: Path) -> list[Group]:
    """The groups that `save_groups` wrote."""
    with np.load(file, allow_pickle=False) as data:
        a = {name: data[name] for name in data.files}
    ends = np.cumsum(a["lengths"])[:-1]
    names = a["part_names"].tolist()
    columns = zip(
        np.split(a["tokens"], ends),
        np.split(a["logprobs"], ends),
        np.split(a["versions"], ends),
        a["rewards"].tolist(),
        a["truncated"].tolist(),
        [{n: x for n, x in zip(names, row, strict=True) if x == x} for row in a["parts"].tolist()],
        strict=True,
    )
    completions = [Completion(*column) for column in columns]
    prompts = np.split(a["prompts"], np.cumsum(a["prompt_lengths"])[:-1])
    groups, start = [], 0
    for identifier, size, prompt in zip(a["group_ids"].tolist(), a["group_sizes"].tolist(), prompts, strict=True):
        groups.append(Group(prompt, tuple(completions[start : start + size]), identifier))
        start += size
    return groups


def validate_groups(groups: Sequence[Group], vocabulary: int) -> None:
    """Raise `BatchError` unless every group can be trained on.

    Checks shapes, token ids in [0, vocabulary), finite logprobs that are not positive, and finite rewards.
    """
    if not groups:
        raise BatchError("the batch holds no groups; wait for at least one before calling train_step")
    for group in groups:
        where = f"group {group.id}"
        if group.prompt.ndim != 1 or group.prompt.size == 0:
            raise BatchError(f"{where}: the prompt must be a non-empty vector, got shape {group.prompt.shape}")
        if not group.completions:
            raise BatchError(f"{where}: a group needs at least one completion")
        _require_ids(group.prompt, vocabulary, f"{where}, prompt")
        for index, completion in enumerate(group.completions):
            _validate_completion(completion, vocabulary, f"{where}, completion {index}")


def _validate_completion(completion: Completion, vocabulary: int, where: str) -> None:
    shape = completion.tokens.shape
    if completion.tokens.ndim != 1 or completion.tokens.size == 0:
        raise BatchError(f"{where}: tokens must be a non-empty vector, got shape {shape}")
    if completion.logprobs.shape != shape or completion.versions.shape != shape:
        raise BatchError(
            f"{where}: {shape[0]} tokens, but logprobs {completion.logprobs.shape} and versions "
            f"{completion.versions.shape}; all three must have one entry a token"
        )
    _require_ids(completion.tokens, vocabulary, where)
    logprobs = completion.logprobs
    if not np.isfinite(logprobs).all() or logprobs.max() > LOGPROB_TOLERANCE:
        raise BatchError(f"{where}: behaviour logprobs must be finite and at most 0")
    if not np.isfinite(completion.reward):
        raise BatchError(f"{where}: reward {completion.reward} is not finite")


def _require_ids(tokens: Int32, vocabulary: int, where: str) -> None:
    if tokens.min() < 0 or tokens.max() >= vocabulary:
        raise BatchError(f"{where}: token ids {tokens.min()}..{tokens.max()} exceed the vocabulary of {vocabulary}")
