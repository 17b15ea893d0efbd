"""A batch on its way to a learner of several ranks, each of which fetches only what it trains.

First come *outlines*: rewards, lengths and versions, of which advantages, minibatches and micro-batches follow. Each
rank works out its share from them, and fetches the payloads of those completions. Of the others it has stand-ins, whose
lengths, versions and mean logprobs are the true ones: whatever is counted over the whole batch comes out the same on
every rank.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, FiniteFloat, TypeAdapter

from actors.errors import ProtocolError
from actors.replay import messages as m
from actors.replay.batch import Head, completions_of, delivered_as, experts_of_prompt
from actors.replay.bundle import bundled, unbundled
from actors.replay.changes import Key
from actors.replay.payload import Payload
from actors.replay.records import GroupRecord
from actors.transport.codec import Array
from learner.batch import Completion, Group, LossMask, RoutedExperts

#: Of every group of a batch, the completions that a rank trains.
Share = Sequence[Sequence[int]]


class Outline(Head):
    """A group without its tokens; lists have one entry a completion."""

    prompt_tokens: int = Field(ge=1)
    truncated: list[bool]
    logprobs: list[FiniteFloat] = Field(description="mean over the tokens that the loss mask leaves (nats)")
    spans: list[list[tuple[int, int, int]]] = Field(
        description="version, tokens, and tokens that the loss mask leaves, of each span"
    )


_OUTLINES = TypeAdapter(list[Outline])


# ---------------------------------------------------------------- in the replay


def encode_outlines(groups: Iterable[tuple[Head, Payload]]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Body and arrays of the reply that delivers the outlines of `groups`."""
    return {"groups": [_outline(head, payload).model_dump() for head, payload in groups]}, {}


def _outline(head: Head, payload: Payload) -> Outline:
    mask = np.ones(len(payload.tokens), np.uint8) if payload.loss_mask is None else payload.loss_mask
    left = np.add.reduceat(mask.astype(np.int64), np.cumsum(payload.span_tokens) - payload.span_tokens)
    columns = np.stack([payload.span_versions, payload.span_tokens, left], axis=1).tolist()
    first = np.cumsum(payload.lengths) - payload.lengths
    sums = np.add.reduceat(payload.logprobs * mask, first, dtype=np.float64)
    return Outline(
        **head.model_dump(),
        prompt_tokens=len(payload.prompt),
        truncated=payload.truncated.astype(bool).tolist(),
        logprobs=(sums / np.add.reduceat(mask.astype(np.int64), first)).tolist(),
        spans=[columns[end - count : end] for end, count in zip(np.cumsum(payload.spans), payload.spans, strict=True)],
    )


def encode_payloads(
    request: m.TakePayloads, batches: Mapping[int, Sequence[int]], records: Mapping[Key, GroupRecord]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Body and arrays of the reply with the payloads of some completions: those of the group at position i of the
    request under the names "i.tokens", "i.logprobs" and so on.

    Raises:
        ProtocolError: for a completion that is not in the batch of the request's version.
    """
    arrays: dict[str, Array] = {}
    for position, wanted in enumerate(request.groups):
        record = records.get(("train", wanted.group_id))
        if wanted.group_id not in batches.get(request.version, ()) or record is None or record.payload is None:
            raise ProtocolError(f"group {wanted.group_id} is not in the batch of version {request.version}")
        if max(wanted.completions) >= len(record.payload.lengths):
            raise ProtocolError(f"group {wanted.group_id} has {len(record.payload.lengths)} completions")
        part = part_of(record.payload, wanted.completions)
        arrays |= bundled(position, part.arrays())
    return {"groups": [wanted.group_id for wanted in request.groups]}, arrays


def part_of(payload: Payload, chosen: Sequence[int]) -> Payload:
    """The payload of some completions of a group."""
    tokens = _slices(payload.lengths, chosen)
    spans = _slices(payload.spans, chosen)
    return Payload(
        prompt=payload.prompt,
        tokens=payload.tokens[tokens],
        logprobs=payload.logprobs[tokens],
        lengths=payload.lengths[list(chosen)],
        truncated=payload.truncated[list(chosen)],
        spans=payload.spans[list(chosen)],
        span_versions=payload.span_versions[spans],
        span_tokens=payload.span_tokens[spans],
        loss_mask=None if payload.loss_mask is None else payload.loss_mask[tokens],
        teacher_logprobs=None if payload.teacher_logprobs is None else payload.teacher_logprobs[tokens],
        routed_experts=_experts_of(payload, chosen),
    )


def _experts_of(payload: Payload, chosen: Sequence[int]) -> RoutedExperts | None:
    if (routed := payload.experts_by_token()) is None:
        return None
    prompt = len(payload.prompt)
    rows: Array = np.append(np.arange(prompt), prompt + _slices(payload.lengths - 1, chosen))
    return routed[rows].reshape(-1)


def _slices(lengths: Array, chosen: Sequence[int]) -> Array:
    """Where the entries of some rows are in an array of rows of `lengths`, end to end."""
    ends = np.cumsum(lengths)
    found: Array = np.concatenate([np.arange(ends[i] - lengths[i], ends[i]) for i in chosen])
    return found


# ---------------------------------------------------------------- in the learner


def decode_outlines(body: Mapping[str, Any], group_size: int) -> list[Group]:
    """The groups of a delivered batch, in order, as stand-ins.

    Raises:
        ProtocolError: if a group is out of form, or has not `group_size` completions.
    """
    return [_stand_in(outline, group_size) for outline in delivered_as(_OUTLINES, body)]


def _stand_in(o: Outline, group_size: int) -> Group:
    columns = (o.rewards, o.parts, o.truncated, o.logprobs, o.spans)
    if any(len(column) != group_size for column in columns):
        raise ProtocolError(f"group {o.group_id}: its outline has not {group_size} completions")
    completions = []
    for reward, parts, truncated, logprob, spans in zip(*columns, strict=True):
        versions, tokens, left = np.array(spans, np.int32).reshape(-1, 3).T
        if len(spans) < 1 or (tokens < 1).any() or (left < 0).any() or (left > tokens).any() or left.sum() < 1:
            raise ProtocolError(f"group {o.group_id}: the version spans of its outline are out of form")
        length = int(tokens.sum())
        completions.append(
            Completion(
                tokens=np.broadcast_to(np.int32(0), length),  # which takes no memory
                logprobs=np.broadcast_to(np.float32(logprob), length),
                versions=np.repeat(versions, tokens),
                reward=reward,
                truncated=truncated,
                parts=parts,
                loss_mask=None if (left == tokens).all() else _mask(tokens, left),
            )
        )
    return Group(np.broadcast_to(np.int32(0), o.prompt_tokens), tuple(completions), o.group_id)


def _mask(tokens: Array, left: Array) -> LossMask:
    """A mask that leaves the first so many tokens of each span."""
    starts = np.repeat(np.cumsum(tokens) - tokens, tokens)
    mask: LossMask = (np.arange(len(starts)) - starts < np.repeat(left, tokens)).astype(np.uint8)
    return mask


def request_of(version: int, groups: Sequence[Group], share: Share) -> dict[str, Any]:
    """The body of the request for the payloads of a share of the batch of `version`."""
    wanted = zip(groups, share, strict=True)
    return {
        "version": version,
        "groups": [{"group_id": group.id, "completions": list(chosen)} for group, chosen in wanted if chosen],
    }


def fill(groups: Sequence[Group], share: Share, arrays: Mapping[str, Array]) -> list[Group]:
    """The batch with the payloads of a share in the place of their stand-ins.

    Raises:
        ProtocolError: if a payload is out of form, or is not of the length that its outline names.
    """
    found = iter(_payloads(share, arrays))
    return [
        _filled(group, chosen, next(found)) if chosen else group for group, chosen in zip(groups, share, strict=True)
    ]


def _payloads(share: Share, arrays: Mapping[str, Array]) -> Iterator[Payload]:
    wanted = [chosen for chosen in share if chosen]
    for chosen, own in zip(wanted, unbundled(arrays, len(wanted)), strict=True):
        yield Payload.of(own, len(chosen))


def _filled(group: Group, chosen: Sequence[int], payload: Payload) -> Group:
    completions = list(group.completions)
    stand_ins = [completions[i] for i in chosen]
    head = Head(
        group_id=group.id,
        source="",
        rewards=[c.reward for c in stand_ins],
        parts=[dict(c.parts) for c in stand_ins],
    )
    for i, stand_in, own in zip(chosen, stand_ins, completions_of(head, payload), strict=True):
        if len(own.tokens) != len(stand_in.tokens) or own.unmasked_tokens != stand_in.unmasked_tokens:
            raise ProtocolError(f"group {group.id}: completion {i} has another length than its outline names")
        completions[i] = own
    if len(payload.prompt) != len(group.prompt):
        raise ProtocolError(f"group {group.id}: its prompt has another length than its outline names")
    return replace(
        group, prompt=payload.prompt, completions=tuple(completions), routed_experts=experts_of_prompt(payload)
    )
