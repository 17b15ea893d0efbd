"""Broadcast of named tensors in packed buckets over a Gloo group that is independent of torch's default group.

Both ends derive the same buckets from the same list of parameters, so nothing but the raw bytes is sent.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore

from actors.transport.address import host_port, own_address
from actors.transport.store import reach_store


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
    """The parameters of an update as its message lists them. Raises ValueError where the lists differ in length."""
    return [
        Parameter(name, getattr(torch, dtype), tuple(shape))
        for name, dtype, shape in zip(names, dtype_names, shapes, strict=True)
    ]


def join(store: TCPStore, address: str, rank: int, world_size: int, deadline_seconds: float) -> ProcessGroupGloo:
    """Meet the other ranks; every collective of the group has the same deadline.

    Args:
        store: where they meet.
        address: of this node, to which the others connect.
        rank: of this process.
        world_size: number of ranks.
        deadline_seconds: longest wait for another rank (s).

    Raises:
        torch.distributed.DistError: where a rank does not come in time.
    """
    options = ProcessGroupGloo._Options()
    options._timeout = timedelta(seconds=deadline_seconds)
    options._devices = [ProcessGroupGloo.create_device(hostname=address)]
    return ProcessGroupGloo(PrefixStore("leeway", store), rank, world_size, options)


def join_in_background(
    host: str, port: int, rank: int, world_size: int, deadline_seconds: float
) -> "Future[tuple[ProcessGroupGloo, TCPStore]]":
    """Meet the other ranks in a thread of its own. Where one of them has died, nobody but that thread waits for it."""
    future: Future[tuple[ProcessGroupGloo, TCPStore]] = Future()

    def meet() -> None:
        try:
            store = reach_store(host_port(host, port), world_size, deadline_seconds)
            group = join(store, own_address(host), rank, world_size, deadline_seconds)
            future.set_result((group, store))
        except Exception as error:  # noqa: BLE001 - raised again where the group is used
            future.set_exception(error)

    threading.Thread(target=meet, name="rendezvous", daemon=True).start()
    return future


def buckets(parameters: Iterable[Parameter], bucket_bytes: int) -> Iterator[list[Parameter]]:
    """Consecutive parameters, in buckets of at most `bucket_bytes`; a larger parameter has a bucket of its own."""
    bucket: list[Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.nbytes > bucket_bytes:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
    if bucket:
        yield bucket


def send(group: ProcessGroupGloo, tensors: Iterator[tuple[str, torch.Tensor]], plan: list[list[Parameter]]) -> int:
    """Broadcast from rank 0, bucket by bucket; the tensors come in the order of the plan. Returns the bytes sent."""
    total = 0
    for bucket in plan:
        parts = []
        for parameter in bucket:
            name, tensor = next(tensors)
            if name != parameter.name or tuple(tensor.shape) != parameter.shape:
                raise ValueError(f"expected {parameter.name} {parameter.shape}, got {name} {tuple(tensor.shape)}")
            parts.append(tensor.detach().to("cpu", parameter.dtype).contiguous().flatten().view(torch.uint8))
        packed = torch.cat(parts)
        group.broadcast(packed, 0).wait()
        total += packed.numel()
    return total


def receive(group: ProcessGroupGloo, plan: list[list[Parameter]]) -> list[tuple[str, torch.Tensor]]:
    """The counterpart of `send`: named tensors in the order of the plan, in host memory."""
    tensors = []
    for bucket in plan:
        packed = torch.empty(sum(p.nbytes for p in bucket), dtype=torch.uint8)
        group.broadcast(packed, 0).wait()
        start = 0
        for parameter in bucket:
            raw = packed[start : start + parameter.nbytes]
            tensors.append((parameter.name, raw.view(parameter.dtype).view(parameter.shape)))
            start += parameter.nbytes
    return tensors
