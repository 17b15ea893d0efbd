"""How who receives comes to the groups of an epoch, and what comes through them: a group for each stripe."""

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import fields, replace
from itertools import accumulate, chain, pairwise

import torch

from actors.transport.address import host_port, own_address, split
from actors.transport.store import reach_store
from actors.weights.background import in_background
from actors.weights.broadcast import BACKENDS, receive
from actors.weights.buckets import Parameter, buckets, unpack
from actors.weights.group import BroadcastGroup, GroupInfo, GroupRank, StripedInfo, abort_once_joined
from actors.weights.staging import Staging

Received = list[tuple[str, torch.Tensor]]


class Joining:
    """A receiver's way into the groups of all stripes.

    Args:
        info: of the groups.
        worker: which of the receiver's workers this is.
        device: as `GroupRank` has it.
    """

    def __init__(self, info: StripedInfo, worker: int, device: torch.device) -> None:
        first = GroupInfo(**{field.name: getattr(info, field.name) for field in fields(GroupInfo)})
        others = [replace(first, master_address=host, master_port=port) for host, port in map(split, info.meet_at)]
        self._groups = [JoiningGroup(group, worker, device) for group in (first, *others)]

    def receive(
        self, parameters: list[Parameter], staging: Staging, *, delta: bool, stripes: Sequence[int] | None = None
    ) -> Received:
        """Everything that is sent, all stripes at the same time.

        Args:
            parameters: named tensors, as they are sent, stripe after stripe.
            staging: gives the memory.
            delta: whether changes are sent of the update that these groups have carried before.
            stripes: how many of the tensors each stripe has; None: there is one.

        Raises:
            ValueError, CorruptBucketError, RuntimeError: as `broadcast.receive`, for the first stripe that fails; the
                others end by their group's deadline, and what comes of them is thrown away.
        """
        counts = [len(parameters)] if stripes is None else stripes
        if len(counts) != len(self._groups) or sum(counts) != len(parameters):
            raise ValueError(f"{len(parameters)} tensors in {len(counts)} stripes, for {len(self._groups)} groups")
        if len(counts) == 1:
            return self._groups[0].receive(parameters, staging, delta=delta)

        def of(group: JoiningGroup, share: list[Parameter]) -> Future[Received]:
            return in_background(lambda: group.receive(share, staging, delta=delta), "stripe-receiver")

        shares = [parameters[start:end] for start, end in pairwise(accumulate(counts, initial=0))]
        coming = [of(group, share) for group, share in zip(self._groups, shares, strict=True)]
        for ended in wait(coming, return_when=FIRST_EXCEPTION).done:
            ended.result()
        return list(chain.from_iterable(stripe.result() for stripe in coming))

    def give_up(self) -> None:
        """Let the groups go; see `JoiningGroup.give_up`."""
        for group in self._groups:
            group.give_up()


class JoiningGroup:
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
        """Everything that is sent, once the group is there; see `broadcast.receive`.

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
            abort_once_joined(self._group)
