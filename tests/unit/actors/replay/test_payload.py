"""A group's arrays are checked before anything is done with them."""

from typing import Any

import numpy as np
import pytest

from actors.errors import ProtocolError
from actors.replay.payload import Payload
from tests.unit.actors.replay.test_batch import payload


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
