"""Packing without padding: a prompt once, then every completion that answers it.

A packed micro-batch is one long row of N tokens. For a prompt q and its completions o_1 ... o_G it holds

    q  o_1[:-1]  o_2[:-1]  ...  o_G[:-1]        at positions 0..P-1, P.., P.., ..., P..

The last token of a completion is only ever predicted, so it is not fed to the model. Attention is where sequences meet,
so there, and only there, every sequence gets a row `q o_i[:-1]` of its own (`Layout`), padded at the right to the
longest row of its bucket; a causal kernel then cannot look into the padding, into another completion, or forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from learner.model.flops import StepCost

# A row may be padded by a quarter of the shortest row in its bucket: more buckets mean more kernel launches, fewer
# mean more wasted attention, and attention is a small part of a step until sequences reach thousands of tokens.
BUCKET_SLACK = 1.25
Int64 = npt.NDArray[np.int64]
#: Stands for the experts of a token whose routing is not known: it goes where its router sends it.
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Segment:
    """A prompt with some of its completions.

    Attributes:
        prompt: int32 [P].
        completions: int32 [T_i] each.
        indices: the index of each completion in the batch.
        loss_masks: uint8 [T_i] or None each (`batch.Completion.loss_mask`); empty where no completion has one.
        routed_experts: of the prompt, [P, L K], and of each completion, [T_i - 1, L K], as `batch.Completion` has them,
            or None each; empty where all are None.
    """

    prompt: npt.NDArray[np.int32]
    completions: tuple[npt.NDArray[np.int32], ...]
    indices: tuple[int, ...]
    loss_masks: tuple[npt.NDArray[np.uint8] | None, ...] = ()
    routed_experts: tuple[npt.NDArray[np.unsignedinteger] | None, ...] = ()

    @property
    def size(self) -> int:
        """Tokens fed to the model."""
        return len(self.prompt) + sum(len(c) - 1 for c in self.completions)

    @property
    def rows(self) -> tuple[int, ...]:
        """Tokens of each sequence's row in attention."""
        return tuple(len(self.prompt) + len(c) - 1 for c in self.completions)


# What a rank runs when it has fewer micro-batches than the others: one token, whose prediction gets weight 0.
DUMMY = Segment(np.zeros(1, dtype=np.int32), (np.zeros(1, dtype=np.int32),), (0,))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the packed tokens lie in the attention rows. R is the number of row slots, padding included.

    Attributes:
        rows: int64 [R], packed index of every slot; padding repeats the last token of its row.
        inverse: int64 [N], the slot whose attention output a packed token takes.
        shared_slots, shared_tokens: int64 [M], the further slots of tokens in more than one row (shared prompts), and
            the packed index of each.
        shapes: (rows, length) of every bucket, in slot order.
    """

    rows: torch.Tensor
    inverse: torch.Tensor
    shared_slots: torch.Tensor
    shared_tokens: torch.Tensor
    shapes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """One micro-batch: N tokens in, T predictions out, S sequences.

    Attributes:
        tokens, positions: int64 [N].
        predictors: int64 [T], packed index of the token whose hidden state predicts target t.
        targets: int64 [T], the completion tokens of all sequences, one sequence after the other; tokens that a loss
            mask excludes are fed to the model and are no targets.
        sequence: int64 [T], which of the S sequences of this micro-batch a target belongs to.
        lengths: int64 [S], targets of each sequence.
        indices: index of each sequence in the batch it was packed from.
        routed_experts: int16 [N, L K], the K experts in each of L layers that a token goes to, or UNKNOWN; None where
            that is so of all.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    predictors: torch.Tensor
    targets: torch.Tensor
    sequence: torch.Tensor
    lengths: torch.Tensor
    indices: tuple[int, ...]
    layout: Layout
    routed_experts: torch.Tensor | None = None

    @property
    def replayed(self) -> int:
        """Number of tokens whose experts are known."""
        return 0 if self.routed_experts is None else int((self.routed_experts[:, 0] != UNKNOWN).sum())

    def unrouted(self) -> Packed:
        """The same without experts."""
        return replace(self, routed_experts=None)


def split_segments(segments: Sequence[Segment], budget: int) -> Iterator[Segment]:
    """Cut segments of more than `budget` tokens between completions; the prompt is repeated in every part."""
    for segment in segments:
        if segment.size <= budget or len(segment.completions) == 1:
            yield segment
            continue
        # Long completions with long ones: a bucket of the attention then wastes less.
        order = sorted(range(len(segment.completions)), key=lambda i: len(segment.completions[i]))
        chosen: list[int] = []
        used = len(segment.prompt)
        for i in order:
            extra = len(segment.completions[i]) - 1
            if chosen and used + extra > budget:
                yield _part(segment, chosen)
                chosen, used = [], len(segment.prompt)
            chosen.append(i)
            used += extra
        yield _part(segment, chosen)


def _part(segment: Segment, chosen: Sequence[int]) -> Segment:
    return Segment(
        segment.prompt,
        tuple(segment.completions[i] for i in chosen),
        tuple(segment.indices[i] for i in chosen),
        tuple(segment.loss_masks[i] for i in chosen) if segment.loss_masks else (),
        tuple(segment.routed_experts[i] for i in (0, *(i + 1 for i in chosen))) if segment.routed_experts else (),
    )


def plan_micro_batches(segments: Sequence[Segment], budget: int) -> list[list[Segment]]:
    """Fill micro-batches of at most `budget` tokens (one segment may exceed it alone), first fit by decreasing size."""
    bins: list[list[Segment]] = []
    space: list[int] = []
    for segment in sorted(split_segments(segments, budget), key=lambda s: -s.size):
        for i, left in enumerate(space):
            if segment.size <= left:
                bins[i].append(segment)
                space[i] -= segment.size
                break
        else:
            bins.append([segment])
            space.append(budget - segment.size)
    return bins


def assign_micro_batches(plan: Sequence[list[Segment]], rank: int, ranks: int, cost: StepCost) -> list[list[Segment]]:
    """The micro-batches of one of several ranks.

    Each forward pass is a collective, in which all wait for the slowest. So the micro-batches that run at one time are
    those that cost about the same, attention included: the dearest of all, then the next, a round of one a rank after
    the other, which is the shortest that a step can be. In each round the rank that had the least so far gets the
    dearest. Whom the last round leaves out gets an empty list, for which it runs a dummy.
    """
    if ranks == 1:
        return list(plan)
    dearest = sorted(((sum(cost.flops(s.size, s.rows) for s in part), part) for part in plan), key=lambda p: -p[0])
    own: list[list[Segment]] = []
    load = np.zeros(ranks)
    for start in range(0, len(dearest), ranks):
        of_round: list[list[Segment]] = [[] for _ in range(ranks)]
        for to, (flops, part) in zip(load.argsort(kind="stable"), dearest[start : start + ranks], strict=False):
            of_round[to] = part
            load[to] += flops
        own.append(of_round[rank])
    return own


def pack(segments: Sequence[Segment], device: torch.device | str = "cpu") -> Packed:
    """Pack segments into one micro-batch on `device`."""
    tokens: list[npt.NDArray[np.int32]] = []
    positions: list[Int64] = []
    predictors: list[Int64] = []
    targets: list[npt.NDArray[np.int32]] = []
    rows: list[tuple[int, int, int, int]] = []  # prompt start, P, completion start, T - 1
    start = 0
    for segment in segments:
        prompt, p = start, len(segment.prompt)
        tokens.append(segment.prompt)
        positions.append(np.arange(p))
        start += p
        masks = segment.loss_masks or (None,) * len(segment.completions)
        for completion, mask in zip(segment.completions, masks, strict=True):
            fed = len(completion) - 1
            unmasked = slice(None) if mask is None else mask != 0
            tokens.append(completion[:-1])
            positions.append(np.arange(p, p + fed))
            predictors.append(np.concatenate(([prompt + p - 1], np.arange(start, start + fed)))[unmasked])
            targets.append(completion[unmasked])
            rows.append((prompt, p, start, fed))
            start += fed
    lengths = np.array([len(t) for t in targets])

    def tensor(parts: Sequence[npt.NDArray[np.integer]]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)

    return Packed(
        tokens=tensor(tokens),
        positions=tensor(positions),
        predictors=tensor(predictors),
        targets=tensor(targets),
        sequence=tensor([np.repeat(np.arange(len(targets)), lengths)]),
        lengths=tensor([lengths]),
        indices=tuple(i for s in segments for i in s.indices),
        layout=_layout(rows, start, device),
        routed_experts=_routed_experts(segments, device),
    )


def _routed_experts(segments: Sequence[Segment], device: torch.device | str) -> torch.Tensor | None:
    """The experts of all tokens that are fed; see `Packed`."""
    width = next((known.shape[1] for s in segments for known in s.routed_experts if known is not None), None)
    if width is None:
        return None
    parts = []
    for segment in segments:
        fed = (len(segment.prompt), *(len(c) - 1 for c in segment.completions))
        for tokens, known in zip(fed, segment.routed_experts or (None,) * len(fed), strict=True):
            parts.append(np.full((tokens, width), UNKNOWN, np.int16) if known is None else known.astype(np.int16))
    return torch.from_numpy(np.concatenate(parts)).to(device)


def _buckets(lengths: Int64) -> Iterator[Int64]:
    """Rows in buckets of similar length; `lengths` is what each row needs."""
    order = np.argsort(lengths, kind="stable")
    first = 0
    for i in range(1, len(order) + 1):
        if i == len(order) or lengths[order[i]] > max(BUCKET_SLACK * lengths[order[first]], lengths[order[first]] + 16):
            yield order[first:i]
            first = i


def _layout(rows: Sequence[tuple[int, int, int, int]], size: int, device: torch.device | str) -> Layout:
    """Attention rows of a packed micro-batch of `size` tokens; see `Layout`."""
    inverse = np.full(size, -1, dtype=np.int64)
    slots: list[Int64] = []
    shared_slots: list[Int64] = []
    shared_tokens: list[Int64] = []
    shapes: list[tuple[int, int]] = []
    offset = 0
    for bucket in _buckets(np.array([p + fed for _, p, _, fed in rows])):
        length = max(rows[i][1] + rows[i][3] for i in bucket)
        shapes.append((len(bucket), length))
        for i in bucket:
            prompt, p, start, fed = rows[i]
            packed = np.concatenate((np.arange(prompt, prompt + p), np.arange(start, start + fed)))
            slots.append(np.pad(packed, (0, length - p - fed), mode="edge"))
            here = np.arange(offset, offset + p + fed)
            if inverse[prompt] < 0:
                inverse[packed] = here
            else:
                inverse[packed[p:]] = here[p:]
                shared_slots.append(here[:p])
                shared_tokens.append(packed[:p])
            offset += length
    empty = np.zeros(0, dtype=np.int64)
    as_tensor = torch.from_numpy
    return Layout(
        rows=as_tensor(np.concatenate(slots)).to(device),
        inverse=as_tensor(inverse).to(device),
        shared_slots=as_tensor(np.concatenate([empty, *shared_slots])).to(device),
        shared_tokens=as_tensor(np.concatenate([empty, *shared_tokens])).to(device),
        shapes=tuple(shapes),
    )
