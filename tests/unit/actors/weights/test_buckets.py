"""Weights as buckets of bytes: what goes in comes out, and what is changed on the way is noticed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors.weights.buckets import (
    ALONE_BYTES,
    CorruptBucketError,
    Parameter,
    buckets,
    checksum,
    pack,
    require_whole,
    size_of,
    unpack,
)

SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), min_size=1, max_size=8)


def described(shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[Parameter]:
    return [Parameter(f"p{number}", dtype, shape) for number, shape in enumerate(shapes)]


@given(SHAPES, st.sampled_from([torch.float32, torch.bfloat16]), st.integers(1, 300))
def test_every_tensor_comes_out_as_it_went_in(
    shapes: list[tuple[int, ...]], dtype: torch.dtype, bucket_bytes: int
) -> None:
    parameters = described(shapes, dtype)
    sent = [(p.name, torch.randn(p.shape)) for p in parameters]
    coming, received = iter(sent), []
    for bucket in buckets(parameters, bucket_bytes):
        packed = pack(bucket, coming)
        assert packed.numel() == size_of(bucket)
        received += unpack(bucket, packed)
    assert [name for name, _ in received] == [name for name, _ in sent]
    for (_, mine), (_, theirs) in zip(sent, received, strict=True):
        assert torch.equal(mine.to(dtype), theirs)


@given(SHAPES, st.integers(1, 300))
def test_a_bucket_keeps_to_its_size_unless_one_parameter_alone_exceeds_it(
    shapes: list[tuple[int, ...]], bucket_bytes: int
) -> None:
    for bucket in buckets(described(shapes, torch.float32), bucket_bytes):
        assert size_of(bucket) <= bucket_bytes or len(bucket) == 1


def test_a_large_tensor_is_sent_from_its_own_memory() -> None:
    large = torch.randn(ALONE_BYTES // 4)
    parameters = described([(3,), tuple(large.shape), (3,)], torch.float32)
    first, alone, last = buckets(parameters, 64 * ALONE_BYTES)
    assert [len(bucket) for bucket in (first, alone, last)] == [1, 1, 1]
    assert pack(alone, iter([("p1", large)])).data_ptr() == large.data_ptr()


@given(st.data(), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_one_flipped_bit_is_noticed_and_its_tensors_named(data: st.DataObject, sizes: list[int]) -> None:
    parameters = described([(size,) for size in sizes], torch.float32)
    plan = list(buckets(parameters, 100))
    coming = iter([(p.name, torch.randn(p.shape)) for p in parameters])
    packed = [pack(bucket, coming).clone() for bucket in plan]
    sent = torch.frombuffer(bytearray(b"".join(map(checksum, packed))), dtype=torch.uint8)
    require_whole(plan, map(checksum, packed), sent)
    hit = data.draw(st.integers(0, len(plan) - 1))
    packed[hit][data.draw(st.integers(0, len(packed[hit]) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptBucketError, match=f"from {plan[hit][0].name} to {plan[hit][-1].name} "):
        require_whole(plan, map(checksum, packed), sent)


def test_bytes_in_another_order_are_noticed() -> None:
    content = torch.arange(64, dtype=torch.uint8)
    assert checksum(content) != checksum(torch.cat([content[32:], content[:32]]))


def test_other_tensors_than_were_announced_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a"):
        pack([Parameter("a", torch.float32, (2, 2))], iter([("b", torch.zeros(2, 2))]))
