"""Broadcast of named tensors in packed buckets, and how those who send and who receive come to a group for it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass

import torch

from actors.transport.address import Node, host_port, own_address, split
from actors.transport.store import reach_store, serve_store
from actors.weights import deltas, gloo, nccl
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
from actors.weights.group import BroadcastGroup, GroupInfo, GroupRank
from actors.weights.session import SyncClient, Tensors, together
from actors.weights.staging import Staging

Received = list[tuple[str, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Backend:
    """What carries the bytes.

    Attributes:
        join: meets the other ranks; raises `torch.distributed.DistError` where one does not come in time.
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


class Joining:
    """A receiver's way into a group, in a thread of its own: nobody else waits for a rank that has died.

    Args:
        info: of the group.
        worker: which of the receiver's workers this is.
        device: as `GroupRank` has it.
    """

    def __init__(self, info: GroupInfo, worker: int, device: torch.device) -> None:
        backend = BACKENDS[info.backend]
        self._interruptible, self._info = backend.interruptible, info

        def meet() -> BroadcastGroup:
            store = reach_store(
                host_port(info.master_address, info.master_port), info.world_size, info.deadline_seconds
            )
            address, number = own_address(info.master_address), info.rank_offset + worker
            return backend.join(GroupRank(store, number, info.world_size, address, device, info.deadline_seconds))

        self._group = in_background(meet, "rendezvous")
        self._before: list[torch.Tensor] = []

    def receive(self, parameters: list[Parameter], staging: Staging, *, delta: bool) -> Received:
        """Everything that is sent, once the group is there; see `receive`.

        Args:
            parameters: named tensors, as they are sent.
            staging: gives the memory.
            delta: whether changes are sent of the update that this group has carried before.
        """
        plan = list(buckets(parameters, self._info.bucket_bytes))
        if delta and len(self._before) != len(plan):
            raise ValueError("changes are to come of an update that this group has not carried")
        group = self._group.result(self._info.deadline_seconds)
        self._before = receive(group, plan, staging, self._before if delta else ())
        return [named for bucket, packed in zip(plan, self._before, strict=True) for named in unpack(bucket, packed)]

    def give_up(self) -> None:
        """Let the group go. A thread that is in a broadcast of Gloo's ends by its deadline, and what it has received
        until then is thrown away."""
        if self._interruptible:
            self._group.add_done_callback(_abort)


def _abort(joined: Future[BroadcastGroup]) -> None:
    if joined.exception() is None:
        joined.result().abort()


class BroadcastTransport:
    """Rank 0 of a group. `world_size` counts the workers of all generators and this process.

    A Gloo group's own connections, and NCCL's, use any free ports.

    Args:
        client: tells the generators.
        world_size: number of ranks.
        node: where the ranks meet.
        backend: name of what carries the bytes.
        device: as `GroupRank` has it.
        dtype: of the weights on the wire.
        bucket_bytes: as `buckets` has it.
        deadline_seconds: as `GroupRank` has it.
        delta: whether to send what has changed, from the second update on; the one before is kept for it.
    """

    def __init__(
        self,
        client: SyncClient,
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
        self._client, self._dtype, self._bucket_bytes, self._delta = client, dtype, bucket_bytes, delta
        self._before: list[torch.Tensor] = []
        self._store, address = serve_store(node, world_size, deadline_seconds)
        host, port = split(address)
        info = GroupInfo(backend, host, port, 1, world_size, bucket_bytes, deadline_seconds)
        first = GroupRank(self._store, 0, world_size, node.advertise, device, deadline_seconds)
        self._group = together(
            lambda: client.init_weight_transfer_engine(asdict(info)), lambda: BACKENDS[backend].join(first)
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
                "delta": bool(self._before),
            }
        )
        kept: list[torch.Tensor] | None = [] if self._delta else None
        sent = send(self._group, iter(tensors), plan, self._before, kept)
        self._client.finish_weight_update()
        self._before = kept or []
        return sent

    def close(self) -> None:
        self._group.abort()
