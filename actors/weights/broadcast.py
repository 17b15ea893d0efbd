"""Broadcast of named tensors in packed buckets, and how who sends comes to a group for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from actors.config.roles import WeightsConfig
from actors.transport.address import Node, split
from actors.transport.store import serve_store
from actors.weights import deltas, gloo, nccl
from actors.weights.buckets import (
    CHECKSUM_BYTES,
    Bucket,
    Parameter,
    buckets,
    checksum,
    listed,
    pack,
    require_whole,
    size_of,
)
from actors.weights.group import BroadcastGroup, GroupInfo, GroupRank
from actors.weights.session import SyncClient, Tensors, together
from actors.weights.staging import Staging


@dataclass(frozen=True, slots=True)
class Backend:
    """What carries the bytes.

    Attributes:
        join: meets the other ranks; raises `torch.distributed.DistError` or TimeoutError where one does not come, or
            goes no further, in time.
        interruptible: whether a receiver can end a broadcast that it waits in. Gloo's ends by its deadline alone.
    """

    join: Callable[[GroupRank], BroadcastGroup]
    interruptible: bool


#: By the recipe's `weights.backend`.
BACKENDS = {"gloo": Backend(gloo.join, interruptible=False), "nccl": Backend(nccl.join, interruptible=True)}


def send(
    group: BroadcastGroup,
    tensors: Iterator[tuple[str, torch.Tensor]],
    plan: list[Bucket],
    before: Sequence[torch.Tensor] = (),
    kept: list[torch.Tensor] | None = None,
) -> int:
    """Broadcast from rank 0, bucket by bucket; the next is packed while one is on its way.

    Args:
        group: of all receivers.
        tensors: named, of any dtype and device, in the order of the plan.
        plan: from `buckets`.
        before: the buckets of the update before, of which all receivers know; then what has changed is sent.
        kept: gets the buckets of this one.

    Returns:
        The bytes sent, without the checksums.

    Raises:
        ValueError: where the tensors are not those of the plan.
    """
    total, checksums, under_way = 0, bytearray(), None
    for number, bucket in enumerate(plan):
        packed = pack(bucket, tensors)
        checksums += checksum(packed)
        for message in deltas.messages(packed, before[number]) if before else (packed,):
            if under_way is not None:
                under_way.wait()
            under_way = group.broadcast(message, 0)
            total += message.numel()
        if kept is not None:
            kept.append(packed)
    if under_way is not None:
        under_way.wait()
        group.broadcast(torch.frombuffer(checksums, dtype=torch.uint8), 0).wait()
    return total


def receive(
    group: BroadcastGroup, plan: list[Bucket], staging: Staging, before: Sequence[torch.Tensor] = ()
) -> list[torch.Tensor]:
    """The counterpart of `send`: the buckets of the plan, in memory of `staging`.

    One broadcast at a time: a Gloo group that is given up with another one pending waits for it when it is destroyed,
    and nothing else of this process gets on meanwhile.

    Raises:
        RuntimeError: where the sender or another receiver is gone, or the group's deadline has passed.
        ValueError, CorruptBucketError: where something else came than was sent.
    """
    found, checksums = [], []
    for number, bucket in enumerate(plan):
        if before:
            packed = _changed(group, staging.take_with(before[number]))
        else:
            packed = _next(group, staging.take(size_of(bucket)))
        checksums.append(checksum(packed))
        found.append(packed)
    if plan:
        require_whole(plan, checksums, _next(group, _bytes(CHECKSUM_BYTES * len(plan))))
    return found


def _changed(group: BroadcastGroup, packed: torch.Tensor) -> torch.Tensor:
    size = deltas.size_in(_next(group, _bytes(deltas.HEADER_BYTES)), packed)
    if size == deltas.WHOLE:
        return _next(group, packed)
    if size:
        deltas.apply(_next(group, _bytes(size)), packed)
    return packed


def _next(group: BroadcastGroup, packed: torch.Tensor) -> torch.Tensor:
    group.broadcast(packed, 0).wait()
    return packed


def _bytes(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8)


class Outgoing:
    """Rank 0 of a group, and what it has sent last. `world_size` counts the workers of all generators and this process.

    A Gloo group's own connections, and NCCL's, use any free ports.

    Args:
        world_size: number of ranks.
        node: where the ranks meet.
        backend: name of what carries the bytes.
        device: as `GroupRank` has it.
        dtype: of the weights on the wire.
        bucket_bytes: as `buckets` has it.
        deadline_seconds: as `GroupRank` has it.
        delta: whether to send what has changed, from the second update on; the one before is kept for it.

    Attributes:
        meets_at: host:port at which the ranks meet.
        info: of the group, for receivers.
        before: the buckets of the update before; none where the next one is sent whole.
    """

    def __init__(
        self,
        world_size: int,
        *,
        node: Node,
        backend: str,
        device: torch.device,
        dtype: torch.dtype,
        bucket_bytes: int,
        deadline_seconds: float,
        delta: bool,
    ) -> None:
        self._dtype, self._bucket_bytes, self._delta = dtype, bucket_bytes, delta
        self.before: list[torch.Tensor] = []
        self._store, self.meets_at = serve_store(node, world_size, deadline_seconds)
        host, port = split(self.meets_at)
        self.info = GroupInfo(backend, host, port, 1, world_size, bucket_bytes, deadline_seconds)
        self._rank = GroupRank(self._store, 0, world_size, node.advertise, device, deadline_seconds)

    def join(self) -> BroadcastGroup:
        """Meet the other ranks; raises as the backend's `join`."""
        return BACKENDS[self.info.backend].join(self._rank)

    def parameters(self, tensors: Tensors) -> list[Parameter]:
        """What `send` will make of these."""
        return [Parameter(name, self._dtype, tuple(tensor.shape)) for name, tensor in tensors]

    def send(self, group: BroadcastGroup, tensors: Tensors, parameters: list[Parameter]) -> int:
        """Broadcast tensors, or what has changed since the ones before; see `send`."""
        kept: list[torch.Tensor] | None = [] if self._delta else None
        plan = list(buckets(parameters, self._bucket_bytes))
        sent = send(group, iter(tensors), plan, self.before, kept)
        self.before = kept or []
        return sent


def options_of(config: WeightsConfig, node: Node, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """The arguments of an `Outgoing` that are the same in every epoch."""
    return {
        "node": node,
        "backend": config.backend,
        "device": device,
        "dtype": dtype,
        "bucket_bytes": config.bucket_bytes,
        "deadline_seconds": config.deadline_seconds,
        "delta": config.delta,
    }


class BroadcastTransport:
    """The first sender's end of an epoch. `client` tells the generators; the rest is as `Outgoing` has it."""

    def __init__(self, client: SyncClient, world_size: int, **options: Any) -> None:
        self._client = client
        self._outgoing = Outgoing(world_size, **options)
        told = asdict(self._outgoing.info)
        self._group = together(lambda: client.init_weight_transfer_engine(told), self._outgoing.join)

    def send(self, tensors: Tensors) -> int:
        parameters = self._outgoing.parameters(tensors)
        self._client.start_weight_update()
        self._client.update_weights({**listed(parameters), "delta": bool(self._outgoing.before)})
        sent = self._outgoing.send(self._group, tensors, parameters)
        self._client.finish_weight_update()
        return sent

    def close(self) -> None:
        self._group.abort()
