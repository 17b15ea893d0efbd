"""What has changed of a bucket, told and applied."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors.weights.deltas import WHOLE, apply, change, messages, size_in

BYTES = st.integers(1, 200).flatmap(lambda n: st.tuples(*[st.binary(min_size=2 * n, max_size=2 * n)] * 2))


def _tensor(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


@given(BYTES, st.integers(0, 100))
def test_whatever_has_changed_is_there_afterwards(pair: tuple[bytes, bytes], percent: int) -> None:
    before, other = map(_tensor, pair)
    kept = torch.arange(len(before)) % 100 >= percent
    bucket = torch.where(kept, before, other)
    header, *rest = messages(bucket, before)
    size = size_in(header, bucket)
    if size == WHOLE:
        assert torch.equal(rest[0], bucket)
    elif not size:
        assert not rest
        assert torch.equal(before, bucket)
    else:
        assert len(rest[0]) == size <= len(bucket) / 2
        apply(rest[0], before)
        assert torch.equal(before, bucket)


def test_bits_are_compared_and_not_numbers() -> None:
    before = torch.tensor([0.0, float("nan")] * 40, dtype=torch.bfloat16)
    bucket = before.clone()
    bucket[0] = -0.0
    changed = change(bucket.view(torch.uint8), before.view(torch.uint8))
    assert changed is not None
    assert changed.numel() == 6


def test_a_step_that_changes_one_weight_in_a_hundred_is_told_in_a_thirtieth() -> None:
    before = torch.randn(100_000).bfloat16()
    bucket = before.clone()
    bucket[::100] += 1
    changed = change(bucket.view(torch.uint8), before.view(torch.uint8))
    assert changed is not None
    assert changed.numel() == 1000 * 6
    assert bucket.nbytes > 33 * changed.numel()


@pytest.mark.parametrize("position", [-1, 8, 2**31 - 1])
def test_a_change_beyond_its_bucket_is_refused_and_changes_nothing(position: int) -> None:
    bucket = torch.zeros(16, dtype=torch.uint8)
    changed = torch.ones(6, dtype=torch.uint8)
    changed[:4] = torch.tensor([position], dtype=torch.int32).view(torch.uint8)
    with pytest.raises(ValueError, match="no change of a bucket of 16"):
        apply(changed, bucket)
    with pytest.raises(ValueError, match="no change of a bucket"):
        apply(changed[:5], bucket)
    assert not bucket.any()


@pytest.mark.parametrize("size", [-2, 17, 2**40])
def test_a_header_that_is_none_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="announced"):
        size_in(torch.tensor([size]).view(torch.uint8), torch.zeros(16, dtype=torch.uint8))
