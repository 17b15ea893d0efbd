"""What the learner trains on: groups of completions that answer the same prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from learner.errors import BatchError

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
LossMask = npt.NDArray[np.uint8]
RoutedExperts = npt.NDArray[np.unsignedinteger]
Scalar = TypeVar("Scalar", bound=np.generic)
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
        parts: the parts that the reward was made of, by name, unweighted; the loss reads `reward`, or these where the
            advantage is by_part.
        loss_mask: uint8 [T], 1 where a token counts and 0 where it is context only, because the policy did not write it
            (the output of a tool); None where all count. What a token with 0 has as logprob and version is not used.
        teacher_logprobs: float32 [T], log pi_T(o_t | q, o_<t) in nats: a teacher's logprob of each token at the
            sampling temperature; None where there is no teacher.
        routed_experts: uint8 or uint16 [T - 1, L K], the K experts in each of L layers that the engine sent each token
            to, but the last, which it did not read; None where that is not known.
    """

    tokens: Int32
    logprobs: Float32
    versions: Int32
    reward: float
    truncated: bool = False
    parts: Mapping[str, float] = field(default_factory=dict)
    loss_mask: LossMask | None = None
    teacher_logprobs: Float32 | None = None
    routed_experts: RoutedExperts | None = None

    def unmasked(self, values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """The entries of `values` [T] whose tokens count."""
        return values if self.loss_mask is None else values[self.loss_mask != 0]

    @property
    def unmasked_tokens(self) -> int:
        """Number of the tokens that count."""
        return len(self.tokens) if self.loss_mask is None else int(np.count_nonzero(self.loss_mask))


@dataclass(frozen=True, slots=True)
class Group:
    """G completions of one prompt q: int32 [P] token ids, shared by all of them.

    `routed_experts` are those of the prompt's tokens, [P, L K] as in `Completion`.
    """

    prompt: Int32
    completions: tuple[Completion, ...]
    id: int = 0
    routed_experts: RoutedExperts | None = None


@dataclass(frozen=True, slots=True)
class RoutingShape:
    """What a token's routing looks like in a model: L layers, dense ones among them, with K of E experts each."""

    layers: int
    top_k: int
    experts: int


def save_groups(groups: Sequence[Group], file: Path) -> None:
    """Write groups to a .npz of plain arrays: prompts, tokens, logprobs, versions and masks end to end, with lengths.

    `parts` has a row a completion and a column a name of `part_names`, nan where a completion lacks that part;
    `teacher_logprobs` are nan where there was no teacher. `routed_experts` are those of the groups that are `routed`.
    """
    completions = [c for g in groups for c in g.completions]
    names = sorted({name for c in completions for name in c.parts})
    routed = [_routed(g) for g in groups]
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
        loss_masks=np.concatenate([_mask_of(c) for c in completions]),
        teacher_logprobs=np.concatenate([_teacher_of(c) for c in completions]),
        part_names=np.array(names, dtype=str),
        parts=np.array([[c.parts.get(name, np.nan) for name in names] for c in completions]),
        routed=np.array([bool(own) for own in routed]),
        routed_lengths=np.array([len(part) for own in routed for part in own], int),
        routed_experts=np.concatenate([part for own in routed for part in own] or [np.empty((0, 0), np.uint8)]),
    )


def save_for_inspection(groups: Sequence[Group], file: Path) -> str:
    """Write groups, if that is possible; returns where they are, for a message about something else."""
    try:
        save_groups(groups, file)
    except OSError as error:  # which must not hide why the run ends
        return f"no file, since {file} cannot be written ({error.strerror})"
    return str(file)


def _mask_of(completion: Completion) -> LossMask:
    return np.ones(len(completion.tokens), np.uint8) if completion.loss_mask is None else completion.loss_mask


def _teacher_of(completion: Completion) -> Float32:
    without = np.full(len(completion.tokens), np.nan, np.float32)
    return without if completion.teacher_logprobs is None else completion.teacher_logprobs


def _routed(group: Group) -> list[RoutedExperts]:
    """The experts of a group's prompt, then of its completions; empty unless all are known."""
    own = [group.routed_experts, *(c.routed_experts for c in group.completions)]
    known = [part for part in own if part is not None]
    return known if len(known) == len(own) else []


def load_groups(file: Path) -> list[Group]:
    """The groups that `save_groups` wrote, with None for a mask that excludes nothing."""
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
        [None if mask.all() else mask for mask in np.split(a["loss_masks"], ends)],
        [None if np.isnan(found).all() else found for found in np.split(a["teacher_logprobs"], ends)],
        strict=True,
    )
    completions = [Completion(*column) for column in columns]
    prompts = np.split(a["prompts"], np.cumsum(a["prompt_lengths"])[:-1])
    experts = iter(np.split(a["routed_experts"], np.cumsum(a["routed_lengths"])[:-1]))
    heads = zip(a["group_ids"].tolist(), a["group_sizes"].tolist(), prompts, a["routed"].tolist(), strict=True)
    groups, start = [], 0
    for identifier, size, prompt, routed in heads:
        own = completions[start : start + size]
        if routed:
            of_prompt, own = next(experts), [replace(c, routed_experts=next(experts)) for c in own]
        groups.append(Group(prompt, tuple(own), identifier, of_prompt if routed else None))
        start += size
    return groups


def validate_groups(groups: Sequence[Group], vocabulary: int, routing: RoutingShape | None = None) -> None:
    """Make sure that every group can be trained on, before anything changes.

    Args:
        groups: the batch.
        vocabulary: number of token ids of the model.
        routing: what the routing of its tokens looks like, where it is replayed.

    Raises:
        BatchError: unless shapes fit, token ids lie in [0, vocabulary), logprobs are finite and not positive, rewards
            are finite, every completion has a token that its loss mask does not exclude, and experts are the model's.
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
        if routing is not None:
            _require_experts(group, routing)


def _require_experts(group: Group, routing: RoutingShape) -> None:
    parts = [(len(group.prompt), group.routed_experts)]
    parts += [(len(c.tokens) - 1, c.routed_experts) for c in group.completions]
    for fed, own in parts:
        wanted = (fed, routing.layers * routing.top_k)
        if own is not None and (own.shape != wanted or own.dtype.kind != "u" or own.max(initial=0) >= routing.experts):
            raise BatchError(
                f"group {group.id}: routed_experts are {own.dtype} {own.shape} up to {own.max(initial=0)}, and the "
                f"model routes {wanted} below {routing.experts}; give the engine the learner's model, or set "
                "learner.router_replay: false"
            )


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
    taught = logprobs if completion.teacher_logprobs is None else completion.teacher_logprobs
    if taught.shape != shape or not np.isfinite(taught).all() or taught.max() > LOGPROB_TOLERANCE:
        raise BatchError(f"{where}: the teacher's logprobs must be finite, at most 0, and one of each token")
    if not np.isfinite(completion.reward):
        raise BatchError(f"{where}: reward {completion.reward} is not finite")
    if (mask := completion.loss_mask) is None:
        return
    if mask.shape != shape or mask.dtype != np.uint8 or mask.max() > 1:
        raise BatchError(
            f"{where}: loss_mask must be uint8 with a 0 or 1 for each of the {shape[0]} tokens, got {mask.dtype} "
            f"{mask.shape} up to {mask.max(initial=0)}"
        )
    if not mask.any():
        raise BatchError(f"{where}: loss_mask excludes every token; drop the completion, or unmask what was sampled")


def _require_ids(tokens: Int32, vocabulary: int, where: str) -> None:
    if tokens.min() < 0 or tokens.max() >= vocabulary:
        raise BatchError(f"{where}: token ids {tokens.min()}..{tokens.max()} exceed the vocabulary of {vocabulary}")
