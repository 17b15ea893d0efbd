"""What a rank of several gets of a batch: its own completions as they are, and of the others what is counted."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actors.errors import ProtocolError
from actors.replay import messages as m
from actors.replay.batch import Head, decode_batch, encode_batch
from actors.replay.payload import Payload
from actors.replay.shares import (
    Share,
    decode_outlines,
    encode_outlines,
    encode_payloads,
    fill,
    part_of,
    request_of,
)
from actors.transport.codec import Message, decode, encode, parse
from learner.batch import Group

SIZE = 3


def payload(seed: int, masked: bool = False) -> Payload:
    random = np.random.default_rng(seed)
    spans = random.integers(1, 4, SIZE).astype(np.int32)
    span_tokens = random.integers(1, 6, spans.sum()).astype(np.int32)
    lengths = np.add.reduceat(span_tokens, np.cumsum(spans) - spans).astype(np.int32)
    count = int(lengths.sum())
    mask = random.integers(0, 2, count).astype(np.uint8)
    mask[np.cumsum(lengths) - lengths] = 1
    prompt = random.integers(1, 90, 4 + seed).astype(np.int32)
    routed = random.integers(0, 8, 6 * (len(prompt) + count - SIZE)).astype(np.uint8)
    return Payload(
        prompt=prompt,
        tokens=random.integers(1, 90, count).astype(np.int32),
        logprobs=-random.random(count).astype(np.float32),
        lengths=lengths,
        truncated=random.integers(0, 2, SIZE).astype(np.uint8),
        spans=spans,
        span_versions=random.integers(0, 9, spans.sum()).astype(np.int32),
        span_tokens=span_tokens,
        loss_mask=mask if masked else None,
        teacher_logprobs=-random.random(count).astype(np.float32) if seed % 2 else None,
        routed_experts=routed if seed % 3 else None,
    )


def head(group_id: int) -> Head:
    return Head(group_id=group_id, source="s", rewards=[0.5, 1.0, 0.0], parts=[{"accuracy": 1.0}] * SIZE)


BATCH = [(head(i), payload(i, masked=i == 2)) for i in range(4)]


def travelled(body: dict[str, Any], arrays: dict[str, Any]) -> Message:
    return decode(encode(Message("reply", 1, body, arrays)), 2**20)


def whole() -> list[Group]:
    message = travelled(*encode_batch(BATCH))
    return decode_batch(message.body, message.arrays, SIZE)


def outlines() -> list[Group]:
    return decode_outlines(travelled(*encode_outlines(BATCH)).body, SIZE)


def asked(share: Share, version: int = 7) -> Message:
    request = {"worker": "w", "role": "learner", **request_of(version, outlines(), share)}
    body = parse(Message("take_payloads", 1, request), m.REQUESTS)
    assert isinstance(body, m.TakePayloads)
    records: Any = {("train", i): SimpleNamespace(payload=p) for i, (_, p) in enumerate(BATCH)}
    return travelled(*encode_payloads(body, {7: [0, 1, 2, 3]}, records))


def test_an_outline_has_all_that_is_counted_over_the_whole_batch() -> None:
    for told, true in zip(outlines(), whole(), strict=True):
        assert (told.id, len(told.prompt)) == (true.id, len(true.prompt))
        for a, b in zip(told.completions, true.completions, strict=True):
            assert (a.reward, a.parts, a.truncated) == (b.reward, b.parts, b.truncated)
            assert (len(a.tokens), a.unmasked_tokens) == (len(b.tokens), b.unmasked_tokens)
            assert sorted(a.unmasked(a.versions)) == sorted(b.unmasked(b.versions))
            assert a.unmasked(a.logprobs).mean() == pytest.approx(b.unmasked(b.logprobs).mean(), rel=1e-6)


@pytest.mark.parametrize("share", [[[0, 1, 2]] * 4, [[1], [], [0, 2], []], [[], [], [], [2]]])
def test_the_share_of_a_rank_is_what_all_of_the_batch_would_have_had_there(share: Share) -> None:
    stand_ins = outlines()
    found = fill(stand_ins, share, asked(share).arrays)
    for chosen, mine, told, true in zip(share, found, stand_ins, whole(), strict=True):
        if chosen:
            assert mine.prompt.tolist() == true.prompt.tolist()
            assert np.array_equal(mine.routed_experts, true.routed_experts)
        for i, completion in enumerate(mine.completions):
            wanted = true.completions[i] if i in chosen else told.completions[i]
            assert same(completion, wanted)


def same(a: Any, b: Any) -> bool:
    arrays = ("tokens", "logprobs", "versions", "loss_mask", "routed_experts")
    equal = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays if getattr(b, name) is not None)
    return equal and (a.reward, a.parts, a.truncated) == (b.reward, b.parts, b.truncated)


def test_no_more_travels_than_the_share() -> None:
    everything, one = (asked(share).arrays for share in ([[0, 1, 2]] * 4, [[1], [], [], []]))
    assert {name.partition(".")[0] for name in one} == {"0"}
    assert len(one["0.tokens"]) == BATCH[0][1].lengths[1] < len(everything["0.tokens"])


def test_a_part_of_a_payload_is_a_payload() -> None:
    for chosen in ([0], [2, 0], [0, 1, 2]):
        part = part_of(BATCH[2][1], chosen)
        assert Payload.of(part.arrays(), len(chosen)).lengths.tolist() == BATCH[2][1].lengths[chosen].tolist()


@pytest.mark.parametrize(("share", "version"), [([[0], [], [], []], 6), ([[3], [], [], []], 7)])
def test_what_is_not_in_the_batch_is_refused(share: Sequence[Sequence[int]], version: int) -> None:
    with pytest.raises(ProtocolError, match="group 0"):
        asked(share, version)


def test_payloads_of_other_lengths_than_their_outlines_are_refused() -> None:
    share = [[0], [], [], []]
    arrays = dict(asked(share).arrays)
    (first, *rest) = outlines()
    longer = replace(first.completions[0], tokens=np.zeros(99, np.int32))
    with pytest.raises(ProtocolError, match="another length"):
        fill([replace(first, completions=(longer, *first.completions[1:])), *rest], share, arrays)
    with pytest.raises(ProtocolError):
        fill([first, *rest], share, {})


@pytest.mark.parametrize(
    "change",
    [
        {"rewards": [1.0]},
        {"spans": [[], [], []]},
        {"spans": [[[1, 2, 3]]] * 3},
        {"spans": [[[1, 2, 0]]] * 3},
        {"logprobs": ["x"] * 3},
        {"prompt_tokens": 0},
    ],
)
def test_an_outline_out_of_form_is_refused(change: dict[str, Any]) -> None:
    body, _ = encode_outlines(BATCH[:1])
    with pytest.raises(ProtocolError):
        decode_outlines({"groups": [body["groups"][0] | change]}, SIZE)
