"""A batch arrives at the learner as the replay sent it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.errors import ProtocolError
from actors.replay.batch import Head, decode_batch, encode_batch
from actors.replay.payload import Payload
from actors.transport.codec import Message, decode, encode

PARTS = [{"accuracy": 1.0, "format": 1.0}, {"accuracy": 0.0}]


def payload() -> Payload:
    return Payload(
        prompt=np.array([1, 2], np.int32),
        tokens=np.arange(5, dtype=np.int32),
        logprobs=np.full(5, -0.5, np.float32),
        lengths=np.array([2, 3], np.int32),
        truncated=np.array([0, 1], np.uint8),
        spans=np.ones(2, np.int32),
        span_versions=np.array([3, 4], np.int32),
        span_tokens=np.array([2, 3], np.int32),
    )


def head(group_id: int = 9, **changes: Any) -> Head:
    return Head.model_validate({"group_id": group_id, "source": "s", "rewards": [1.1, 0.0], "parts": PARTS} | changes)


def sent(*groups: tuple[Head, Payload]) -> Message:
    body, arrays = encode_batch(groups)
    return decode(encode(Message("reply", 1, body, arrays)), 2**20)


def test_a_delivered_batch_keeps_what_the_reward_was_made_of() -> None:
    message = sent((head(9), payload()), (head(4), payload()))
    group, other = decode_batch(message.body, message.arrays, 2)
    assert (group.id, other.id) == (9, 4)
    assert [c.reward for c in group.completions] == [1.1, 0.0]
    assert [c.parts for c in group.completions] == PARTS
    assert [c.tokens.tolist() for c in group.completions] == [[0, 1], [2, 3, 4]]
    assert [c.versions.tolist() for c in group.completions] == [[3, 3], [4, 4, 4]]
    assert [c.truncated for c in group.completions] == [False, True]


def test_a_loss_mask_travels_only_where_there_is_one() -> None:
    mask = np.array([1, 1, 1, 0, 1], np.uint8)
    message = sent((head(), payload()), (head(), replace(payload(), loss_mask=mask)))
    assert "0.loss_mask" not in message.arrays
    assert message.arrays["1.loss_mask"].tolist() == mask.tolist()


def test_a_loss_mask_reaches_the_completions() -> None:
    mask = np.array([1, 1, 1, 0, 1], np.uint8)
    message = sent((head(), replace(payload(), loss_mask=mask)))
    (group,) = decode_batch(message.body, message.arrays, 2)
    assert [c.loss_mask.tolist() for c in group.completions if c.loss_mask is not None] == [[1, 1], [1, 0, 1]]


def test_a_batch_out_of_form_is_rejected() -> None:
    message = sent((head(), payload()))
    for body in ({}, {"groups": 3}, {"groups": [{"group_id": 1}]}, {"groups": [head(rewards=[1.0]).model_dump()]}):
        with pytest.raises(ProtocolError):
            decode_batch(body, message.arrays, 2)
    with pytest.raises(ProtocolError):
        decode_batch(message.body, message.arrays, 3)
    with pytest.raises(ProtocolError):
        decode_batch(message.body, {}, 2)
