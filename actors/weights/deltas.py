"""What of a bucket has changed since the update before, in the type on the wire.

A step of AdamW moves a weight by about the learning rate, which is less than bfloat16 tells apart at the size of most
weights: most of what is sent was sent before. Of SmolLM2-135M 0.4 % of the weights changed in a step at a learning rate
of 1e-6, and 2 % at 1e-5. Words of two bytes are compared, as bits. A bucket of which much has changed comes whole.
"""

from collections.abc import Iterator

import torch

#: Bytes of what is said of each bucket first: how large its change is, or that it comes whole.
HEADER_BYTES = 8
WHOLE = -1
_WORD, _POSITION = torch.int16, torch.int32
_CHANGE_BYTES = _WORD.itemsize + _POSITION.itemsize


def change(bucket: torch.Tensor, before: torch.Tensor) -> torch.Tensor | None:
    """What makes `bucket` of the bytes before.

    Args:
        bucket, before: uint8 [n], n even.

    Returns:
        uint8 [6 k]: the positions of the k words that differ, as int32, and then those words; None for a large change.
    """
    words = bucket.view(_WORD)
    positions = torch.nonzero(words != before.view(_WORD)).flatten()
    if 2 * _CHANGE_BYTES * len(positions) > bucket.numel() or words.numel() > torch.iinfo(_POSITION).max:
        return None
    return torch.cat([positions.to(_POSITION).view(torch.uint8), words[positions].view(torch.uint8)])


def apply(changed: torch.Tensor, to: torch.Tensor) -> None:
    """Change the bytes before, in place.

    Raises:
        ValueError: it is no change of a bucket of this size.
    """
    count, rest = divmod(changed.numel(), _CHANGE_BYTES)
    words = to.view(_WORD)
    positions = changed[: count * _POSITION.itemsize].view(_POSITION).long()
    if rest or (count and not 0 <= int(positions.min()) <= int(positions.max()) < words.numel()):
        raise ValueError(f"{changed.numel()} bytes are no change of a bucket of {to.numel()}")
    words[positions] = changed[count * _POSITION.itemsize :].view(_WORD)


def messages(bucket: torch.Tensor, before: torch.Tensor) -> Iterator[torch.Tensor]:
    """What is broadcast of a bucket, uint8 each: a header, and the change or the bucket where there is any."""
    changed = change(bucket, before)
    size = WHOLE if changed is None else changed.numel()
    yield torch.tensor([size]).view(torch.uint8)
    if size:
        yield bucket if changed is None else changed


def size_in(header: torch.Tensor, bucket: torch.Tensor) -> int:
    """How many bytes follow; WHOLE for the bucket.

    Raises:
        ValueError: it is no header.
    """
    size = int(header.view(torch.int64))
    if size != WHOLE and not 0 <= size <= bucket.numel():
        raise ValueError(f"{size} bytes of change were announced for a bucket of {bucket.numel()}")
    return size
