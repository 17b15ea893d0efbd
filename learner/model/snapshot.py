"""Copies of the weights in host memory, taken a piece at a time: no device ever holds the model whole.

A piece is rows of one tensor. Each rank casts its own, the one that keeps the tensor gathers them, and copies them to
where they belong in host memory, which is pinned where the weights are on a GPU. There everything is queued on the
stream of the optimizer step: a copy reads what the step before it has written, and the step after it waits. The learner
does not; who reads the copies waits for an event behind them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, overload

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from learner.distributed import ranks
from learner.errors import SnapshotError

#: Of all ranks together: large enough for the speed of a link, small beside any model (bytes). A row that is larger, as
#: an expert's matrix may be, is a piece by itself.
PIECE_BYTES = 2**26
#: Longest copy of a model to the host, with the steps queued before it (s).
COPY_SECONDS = 600.0
POLL_SECONDS = 0.002

Named = tuple[str, Tensor]
#: Makes other tensors of full ones, one after the other.
Conversion = Callable[[Iterable[Named]], Iterator[Named]]


class Event(Protocol):
    """What is over once everything queued before it is; `torch.cuda.Event` is one."""

    def query(self) -> bool: ...


class Snapshot(Sequence[Named]):
    """Names and full tensors in host memory. To read one waits until the copies are made; `len` does not, unless there
    is a conversion.

    Args:
        tensors: the copies.
        copied: behind the last copy; None: they are made.
        conversion: makes of the copies, once they are made, what is read; each copy is freed when the next one's turn
            comes. It runs in the thread that reads first.

    Raises:
        SnapshotError: on reading, where the copies take longer than `COPY_SECONDS`.
    """

    def __init__(self, tensors: list[Named], copied: Event | None = None, conversion: Conversion | None = None) -> None:
        self._tensors, self._copied, self._conversion = tensors, copied, conversion
        self._converting = threading.Lock()

    def __len__(self) -> int:
        if self._conversion is not None:
            self._wait()
        return len(self._tensors)

    @overload
    def __getitem__(self, index: int) -> Named: ...
    @overload
    def __getitem__(self, index: slice) -> list[Named]: ...
    def __getitem__(self, index: int | slice) -> Named | list[Named]:
        self._wait()
        return self._tensors[index]

    def _wait(self) -> None:
        if (copied := self._copied) is not None:
            until_copied(copied, "weights")
        self._copied = None
        with self._converting:
            if self._conversion is not None:
                self._tensors = list(self._conversion(_emptied(self._tensors)))
                self._conversion = None


def behind_copies(device: torch.device) -> Event:
    """An event behind everything that is queued on the stream of the optimizer step by now."""
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(device))
    return copied


def until_copied(copied: Event, what: str) -> None:
    """Wait for an event behind copies of `what` to host memory.

    Raises:
        SnapshotError: they take longer than `COPY_SECONDS`.
    """
    due = time.monotonic() + COPY_SECONDS
    while not copied.query():
        if time.monotonic() > due:
            raise SnapshotError(
                f"the copy of the {what} to host memory did not end in {COPY_SECONDS:g} s: the learner's GPU hangs; "
                "resume the run from its newest checkpoint"
            )
        time.sleep(POLL_SECONDS)


def take(
    tensors: Iterable[Named],
    dtype: torch.dtype,
    device: torch.device,
    conversion: Conversion | None = None,
    keepers: Sequence[int] | None = None,
) -> Snapshot:
    """Copy tensors into host memory of the ranks that keep them, the first one unless others are named; all others
    help. What a rank keeps nothing of is an empty snapshot.

    Every rank must call it with the same tensors and keepers.

    Args:
        tensors: named; whole, or sharded as `ranks.shard` does. None is read after this call, but by its stream.
        dtype: of the copies.
        device: of the tensors.
        conversion: of the copies, see `Snapshot`.
        keepers: the rank that keeps each tensor; None: the first rank keeps all.
    """
    pinned = device.type == "cuda"
    copies: list[Named] = []
    for number, (name, tensor) in enumerate(tensors):
        keeper = 0 if keepers is None else keepers[number]
        copy = torch.empty(tensor.shape, dtype=dtype, pin_memory=pinned) if ranks.rank() == keeper else None
        for start, rows in _pieces(tensor.detach(), dtype, keeper):
            if copy is not None:
                _rows(copy)[start : start + len(rows)].copy_(rows, non_blocking=pinned)
        if copy is not None:
            copies.append((name, copy))
    return Snapshot(copies, behind_copies(device) if pinned else None, conversion)


def _emptied(tensors: list[Named]) -> Iterator[Named]:
    """Its items in their order; it holds none that was taken."""
    tensors.reverse()
    while tensors:
        yield tensors.pop()


def _rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.dim() else tensor[None]  # a number is a row


def _pieces(tensor: Tensor, dtype: torch.dtype, keeper: int) -> Iterator[tuple[int, Tensor]]:
    """The rows of a tensor in `dtype`, each piece with the number of its first; of shards on the keeper alone."""
    size = tensor.device_mesh.size() if isinstance(tensor, DTensor) else 1
    own = tensor.to_local() if isinstance(tensor, DTensor) else _rows(tensor)
    count = tensor.shape[0] if tensor.dim() else 1
    each = -(-count // size)  # rows of a shard; the last ones may have fewer, or none
    row = max(1, own.shape[1:].numel() * dtype.itemsize)
    step = max(1, PIECE_BYTES // (row * size))
    for start in range(0, each, step):
        rows = min(step, each - start)
        if not isinstance(tensor, DTensor):
            yield start, own[start : start + rows].to(dtype)
            continue
        for number, part in enumerate(_gathered(own[start : start + rows], rows, dtype, tensor, keeper)):
            first = number * each + start
            if first < count:
                yield first, part[: count - first]


def _gathered(own: Tensor, rows: int, dtype: torch.dtype, whole: DTensor, keeper: int) -> list[Tensor]:
    """The rows of all ranks, in their order, on the keeper; on the others nothing."""
    sent = torch.empty((rows, *own.shape[1:]), dtype=dtype, device=own.device)
    sent[: len(own)].copy_(own)  # a shard that ends here leaves the rest as it is, which nobody reads
    found = [torch.empty_like(sent) for _ in range(whole.device_mesh.size() if ranks.rank() == keeper else 0)]
    received = [part.view(torch.uint8) for part in found] or None  # as bytes: not every backend knows every dtype
    dist.gather(sent.view(torch.uint8), received, dst=keeper, group=whole.device_mesh.get_group())
    return found
