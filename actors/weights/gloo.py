"""Broadcast of named tensors in packed buckets over a Gloo group that is independent of torch's default group.

Both ends derive the same buckets from the same list of parameters, so nothing but the raw bytes is sent.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, cast

import torch
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]

from actors.errors import RunError
from actors.transport.address import Node, host_port, own_address, split
from actors.transport.store import reach_store, serve_store
from actors.weights.background import in_background
from actors.weights.session import SyncClient, Tensors, together


class BroadcastGroup(Protocol):
    """What is used of a `ProcessGroupGloo`, whose stubs lack half of it."""

    def broadcast(self, tensor: torch.Tensor, root: int) -> Any: ...

    def abort(self) -> None: ...


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


def join(store: TCPStore, address: str, rank: int, world_size: int, deadline_seconds: float) -> BroadcastGroup:
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
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._timeout = timedelta(seconds=deadline_seconds)
    options._devices = [ProcessGroupGloo.create_device(hostname=address)]
    return cast(BroadcastGroup, ProcessGroupGloo(PrefixStore("leeway", store), rank, world_size, options))


def require_interface(address: str) -> None:
    """Gloo tells the other ranks the address that it binds: an address of another machine in front will not do.

    Raises:
        RunError: this machine has no interface with that address.
    """
    try:
        ProcessGroupGloo.create_device(hostname=address)
    except RuntimeError as error:
        raise RunError(
            f"network.advertise: {address} is no address of this machine, and the weights' broadcast (weights.backend: "
            "gloo) needs one; advertise an address of an interface"
        ) from error


def join_in_background(
    host: str, port: int, rank: int, world_size: int, deadline_seconds: float
) -> Future[BroadcastGroup]:
    """Meet the other ranks in a thread of its own. Where one of them has died, nobody but that thread waits for it."""

    def meet() -> BroadcastGroup:
        store = reach_store(host_port(host, port), world_size, deadline_seconds)
        return join(store, own_address(host), rank, world_size, deadline_seconds)

    return in_background(meet, "rendezvous")


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


def send(group: BroadcastGroup, tensors: Iterator[tuple[str, torch.Tensor]], plan: list[list[Parameter]]) -> int:
    """Broadcast from rank 0, bucket by bucket.

    Args:
        group: of all receivers.
        tensors: named, of any dtype and device, in the order of the plan.
        plan: from `buckets`.

    Returns:
        The bytes sent.

    Raises:
        ValueError: where the tensors are not those of the plan.
    """
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


def receive(group: BroadcastGroup, plan: list[list[Parameter]]) -> list[tuple[str, torch.Tensor]]:
    """The counterpart of `send`: named tensors in the order of the plan, in host memory.

    Raises:
        RuntimeError: where the sender or another receiver is gone, or the group's deadline has passed.
    """
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


def receive_in_background(
    joining: Future[BroadcastGroup], plan: list[list[Parameter]], deadline_seconds: float
) -> Future[list[tuple[str, torch.Tensor]]]:
    """`receive` in a thread of its own, once the group is there.

    Gloo cannot be interrupted: a thread whose update was given up ends by its deadline, and what it has received until
    then is thrown away with its future.
    """
    return in_background(lambda: receive(joining.result(deadline_seconds), plan), "weight-receiver")


class GlooTransport:
    """Rank 0 of a Gloo group. `world_size` counts the workers of all generators and this process.

    The group's own connections use any free ports: Gloo knows no range.
    """

    def __init__(
        self,
        client: SyncClient,
        world_size: int,
        node: Node,
        dtype: torch.dtype,
        bucket_bytes: int,
        deadline_seconds: float,
    ) -> None:
        self._client, self._dtype, self._bucket_bytes = client, dtype, bucket_bytes
        self._store, address = serve_store(node, world_size, deadline_seconds)
        host, port = split(address)
        info = {
            "master_address": host,
            "master_port": port,
            "rank_offset": 1,
            "world_size": world_size,
            "bucket_bytes": bucket_bytes,
            "deadline_seconds": deadline_seconds,
        }
        self._group = together(
            lambda: client.init_weight_transfer_engine(info),
            lambda: join(self._store, node.advertise, 0, world_size, deadline_seconds),
        )

    def send(self, tensors: Tensors) -> int:
        parameters = [Parameter(name, self._dtype, tuple(tensor.shape)) for name, tensor in tensors]
        plan = list(buckets(parameters, self._bucket_bytes))
        self._client.start_weight_update()
        self._client.update_weights(
            {
                "names": [p.name for p in parameters],
                "dtype_names": [str(self._dtype).removeprefix("torch.")] * len(parameters),
                "shapes": [list(p.shape) for p in parameters],
            }
        )
        sent = send(self._group, iter(tensors), plan)
        self._client.finish_weight_update()
        return sent

    def close(self) -> None:
        self._group.abort()
