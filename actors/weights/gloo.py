"""Broadcast of named tensors in packed buckets over a Gloo group that is independent of torch's default group."""

from collections.abc import Iterator
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, Protocol, cast

import torch
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]

from actors.errors import RunError
from actors.transport.address import Node, host_port, own_address, split
from actors.transport.store import reach_store, serve_store
from actors.weights.background import in_background
from actors.weights.buckets import (
    CHECKSUM_BYTES,
    Bucket,
    Parameter,
    buckets,
    checksum,
    pack,
    require_whole,
    size_of,
    unpack,
)
from actors.weights.session import SyncClient, Tensors, together
from actors.weights.staging import Staging


class BroadcastGroup(Protocol):
    """What is used of a `ProcessGroupGloo`, whose stubs lack half of it."""

    def broadcast(self, tensor: torch.Tensor, root: int) -> Any: ...

    def abort(self) -> None: ...


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


def send(group: BroadcastGroup, tensors: Iterator[tuple[str, torch.Tensor]], plan: list[Bucket]) -> int:
    """Broadcast from rank 0, bucket by bucket; the next is packed while one is on its way.

    Args:
        group: of all receivers.
        tensors: named, of any dtype and device, in the order of the plan.
        plan: from `buckets`.

    Returns:
        The bytes sent, without the checksums.

    Raises:
        ValueError: where the tensors are not those of the plan.
    """
    total, checksums, under_way = 0, bytearray(), None
    for bucket in plan:
        packed = pack(bucket, tensors)
        checksums += checksum(packed)
        if under_way is not None:
            under_way.wait()
        under_way = group.broadcast(packed, 0)
        total += packed.numel()
    if under_way is not None:
        under_way.wait()
        group.broadcast(torch.frombuffer(checksums, dtype=torch.uint8), 0).wait()
    return total


def receive(group: BroadcastGroup, plan: list[Bucket], staging: Staging) -> list[tuple[str, torch.Tensor]]:
    """The counterpart of `send`: named tensors in the order of the plan, in memory of `staging`.

    One broadcast at a time: a group that is given up with another one pending waits for it when it is destroyed, and
    nothing else of this process gets on meanwhile.

    Raises:
        RuntimeError: where the sender or another receiver is gone, or the group's deadline has passed.
        CorruptBucketError: where something else came than was sent.
    """
    tensors: list[tuple[str, torch.Tensor]] = []
    checksums: list[bytes] = []
    for bucket in plan:
        packed = _next(group, staging.take(size_of(bucket)))
        checksums.append(checksum(packed))
        tensors += unpack(bucket, packed)
    if plan:
        require_whole(plan, checksums, _next(group, torch.empty(CHECKSUM_BYTES * len(plan), dtype=torch.uint8)))
    return tensors


def _next(group: BroadcastGroup, packed: torch.Tensor) -> torch.Tensor:
    group.broadcast(packed, 0).wait()
    return packed


def receive_in_background(
    joining: Future[BroadcastGroup], plan: list[Bucket], staging: Staging, deadline_seconds: float
) -> Future[list[tuple[str, torch.Tensor]]]:
    """`receive` in a thread of its own, once the group is there.

    Gloo cannot be interrupted: a thread whose update was given up ends by its deadline, and what it has received until
    then is thrown away with its future.
    """
    return in_background(lambda: receive(joining.result(deadline_seconds), plan, staging), "weight-receiver")


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
