"""Named tensors as buckets of bytes.

Both ends derive the same buckets from the same list of parameters, so nothing but raw bytes is sent: a large tensor
from its own memory, smaller ones packed together, and at the end the checksums of all buckets.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import xxhash

from actors.errors import LeewayError

CHECKSUM_BYTES = 8
#: A tensor of this size is a bucket of its own: its bytes need not be copied together with others (bytes).
ALONE_BYTES = 2**20

Bucket = list["Parameter"]


class CorruptBucketError(LeewayError):
    """What was received is not what was sent."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """Name, wire dtype and full shape of one tensor, as Hugging Face names it."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def described(names: Sequence[str], dtype_names: Sequence[str], shapes: Sequence[Sequence[int]]) -> list[Parameter]:
    """The parameters of an update as its message lists them.

    Raises:
        ValueError: where the lists differ in length.
    """
    return [
        Parameter(name, getattr(torch, dtype), tuple(shape))
        for name, dtype, shape in zip(names, dtype_names, shapes, strict=True)
    ]


def listed(parameters: Sequence[Parameter]) -> dict[str, list[Any]]:
    """The lists of a message, of which `described` makes the parameters again."""
    return {
        "names": [p.name for p in parameters],
        "dtype_names": [str(p.dtype).removeprefix("torch.") for p in parameters],
        "shapes": [list(p.shape) for p in parameters],
    }


def buckets(parameters: Iterable[Parameter], bucket_bytes: int) -> Iterator[Bucket]:
    """Consecutive parameters, in buckets of at most `bucket_bytes`; a large parameter is a bucket of its own."""
    alone = min(ALONE_BYTES, bucket_bytes)
    bucket: Bucket = []
    size = 0
    for parameter in parameters:
        if bucket and (parameter.nbytes >= alone or size + parameter.nbytes > bucket_bytes):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
        if parameter.nbytes >= alone:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


def size_of(bucket: Bucket) -> int:
    """Bytes of a bucket."""
    return sum(parameter.nbytes for parameter in bucket)


def pack(bucket: Bucket, tensors: Iterator[tuple[str, torch.Tensor]]) -> torch.Tensor:
    """The bytes of the bucket's tensors in host memory: the memory of a large tensor that is there already in the wire
    dtype, a copy of everything else.

    Args:
        bucket: what comes next.
        tensors: named, of any dtype and device, in the order of the buckets; the bucket's are consumed.

    Raises:
        ValueError: where the tensors are not the bucket's.
    """
    parts = []
    for parameter in bucket:
        name, tensor = next(tensors)
        if name != parameter.name or tuple(tensor.shape) != parameter.shape:
            raise ValueError(f"expected {parameter.name} {parameter.shape}, got {name} {tuple(tensor.shape)}")
        parts.append(tensor.detach().to("cpu", parameter.dtype).contiguous().flatten().view(torch.uint8))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def unpack(bucket: Bucket, packed: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The named tensors of a bucket, as views of its bytes."""
    named, start = [], 0
    for parameter in bucket:
        raw = packed[start : start + parameter.nbytes]
        named.append((parameter.name, raw.view(parameter.dtype).view(parameter.shape)))
        start += parameter.nbytes
    return named


def checksum(packed: torch.Tensor) -> bytes:
    """XXH3 of bytes in host memory: as fast as reading them, and their order counts."""
    return xxhash.xxh3_64_digest(packed.numpy().data)


def require_whole(plan: list[Bucket], found: Iterable[bytes], sent: torch.Tensor) -> None:
    """Compare the checksums of what was received with those that were sent.

    Raises:
        CorruptBucketError: naming the first bucket that differs.
    """
    for number, (bucket, mine) in enumerate(zip(plan, found, strict=True)):
        if mine != bytes(sent[number * CHECKSUM_BYTES : (number + 1) * CHECKSUM_BYTES].tolist()):
            first, last = bucket[0].name, bucket[-1].name
            raise CorruptBucketError(f"the weights from {first} to {last} were corrupted on their way")
