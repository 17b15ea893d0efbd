"""A group's arrays are checked before anything is done with them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ProtocolError
from actors.replay.batch import group_of
from actors.replay.payload import Payload
from actors.replay.shares import part_of
from actors.transport.codec import Message, decode, encode
from tests.unit.actors.replay.test_batch import head, payload


def changed(**arrays: Any) -> dict[str, Any]:
    return payload().arrays() | arrays


def test_a_whole_group_is_accepted_with_and_without_a_loss_mask() -> None:
    assert Payload.of(changed(), 2).loss_mask is None
    mask = np.array([1, 0, 1, 1, 0], np.uint8)
    assert Payload.of(changed(loss_mask=mask), 2).arrays()["loss_mask"] is mask


@pytest.mark.parametrize(
    "arrays",
    [
        {"loss_mask": np.ones(4, np.uint8)},
        {"loss_mask": np.ones(5, np.int32)},
        {"loss_mask": np.full(5, 2, np.uint8)},
        {"loss_mask": np.array([0, 0, 1, 1, 1], np.uint8)},
        {"logprobs": np.array([0.1, -1, -1, -1, -1], np.float32)},
        {"logprobs": np.array([np.nan, -1, -1, -1, -1], np.float32)},
        {"logprobs": np.full(4, -1, np.float32)},
        {"teacher_logprobs": np.full(4, -1, np.float32)},
        {"teacher_logprobs": np.array([-np.inf, -1, -1, -1, -1], np.float32)},
        {"teacher_logprobs": np.array([-1, -1, -1, -1, np.nan], np.float32)},
        {"teacher_logprobs": np.full(5, -1, np.float64)},
        {"tokens": np.array([-1, 1, 1, 1, 1], np.int32)},
        {"lengths": np.array([2, 4], np.int32)},
        {"lengths": np.array([0, 5], np.int32)},
        {"spans": np.array([1, 2], np.int32)},
        {"span_tokens": np.array([3, 2], np.int32)},
        {"prompt": np.array([], np.int32)},
        {"routed_experts": np.zeros(0, np.uint8)},
        {"routed_experts": np.zeros(11, np.uint8)},
        {"routed_experts": np.zeros((5, 2), np.uint8)},
        {"routed_experts": np.zeros(10, np.int32)},
        {"more": np.zeros(1, np.int32)},
    ],
    ids=lambda arrays: next(iter(arrays)),
)
def test_an_inconsistent_group_is_rejected(arrays: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        Payload.of(changed(**arrays), 2)


def test_a_missing_array_is_named() -> None:
    arrays = payload().arrays()
    del arrays["spans"]
    with pytest.raises(ProtocolError, match="spans"):
        Payload.of(arrays, 2)


def test_each_completion_has_its_own_version_spans() -> None:
    spans = {"spans": [2, 1], "span_versions": [3, 4, 4], "span_tokens": [1, 1, 3]}
    group = Payload.of(changed(**{name: np.array(values, np.int32) for name, values in spans.items()}), 2)
    assert [group.spans_of(0), group.spans_of(1)] == [[(3, 1), (4, 1)], [(4, 3)]]


def test_a_teachers_logprobs_join_a_group_and_must_be_those_of_its_tokens() -> None:
    said = np.linspace(-5, 0, 5, dtype=np.float32)
    taught = payload().taught({"teacher_logprobs": said})
    assert taught.teacher_logprobs is said and np.array_equal(taught.tokens, payload().tokens)
    with pytest.raises(ProtocolError, match="lacks the teacher's logprobs"):
        payload().taught({})
    with pytest.raises(ProtocolError, match="not one log-probability a token"):
        payload().taught({"teacher_logprobs": said[1:]})


@given(
    prompt=st.integers(1, 5),
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    width=st.integers(1, 12),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    data=st.data(),
)
def test_where_every_token_went_comes_back_at_its_token(
    prompt: int, lengths: list[int], width: int, dtype: Any, data: st.DataObject
) -> None:
    """Through the wire, for all completions and for a rank's: a row for each token but the last of a completion."""
    rows = prompt + sum(lengths) - len(lengths)
    experts = np.arange(rows * width).astype(dtype)
    whole = Payload(
        prompt=np.zeros(prompt, np.int32),
        tokens=np.zeros(sum(lengths), np.int32),
        logprobs=np.zeros(sum(lengths), np.float32),
        lengths=np.array(lengths, np.int32),
        truncated=np.zeros(len(lengths), np.uint8),
        spans=np.ones(len(lengths), np.int32),
        span_versions=np.zeros(len(lengths), np.int32),
        span_tokens=np.array(lengths, np.int32),
        routed_experts=experts,
    )
    chosen = data.draw(st.permutations(range(len(lengths))))[: data.draw(st.integers(1, len(lengths)))]
    for own, indices in ((whole, range(len(lengths))), (part_of(whole, chosen), chosen)):
        frames = encode(Message("reply", 1, {}, own.arrays()))
        arrived = Payload.of(decode(frames, 2**20).arrays, len(indices))
        count = len(indices)
        group = group_of(head(rewards=[0.0] * count, parts=[{}] * count), arrived)
        rest = np.split(experts.reshape(rows, width), np.cumsum([prompt, *(n - 1 for n in lengths)])[:-1])
        expected = [rest[0], *(rest[i + 1] for i in indices)]
        for found, wanted in zip((group, *group.completions), expected, strict=True):
            assert found.routed_experts is not None and found.routed_experts.dtype == dtype
            assert found.routed_experts.tolist() == wanted.tolist()


def test_routing_takes_a_byte_an_expert_on_the_wire() -> None:
    """What a token of 48 layers with 8 of 128 experts takes, as Qwen3-30B-A3B has them."""
    own = payload()
    read = len(own.prompt) + len(own.tokens) - len(own.lengths)
    plain, routed = (
        sum(map(len, encode(Message("group", 1, {}, arrays))))
        for arrays in (own.arrays(), changed(routed_experts=np.zeros(read * 48 * 8, np.uint8)))
    )
    assert 0 <= routed - plain - read * 48 * 8 < 64
