"""What broadcasts carry bytes over: a group of ranks, of which the first sends."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]


class Broadcast(Protocol):
    """One that is under way."""

    def wait(self) -> Any:
        """Wait for its end; raises what broke it. The group's deadline holds."""
        ...


class BroadcastGroup(Protocol):
    """What is used of a `ProcessGroupGloo`, whose stubs lack half of it, and what `NcclGroup` has likewise."""

    def broadcast(self, tensor: torch.Tensor, root: int) -> Broadcast:
        """Send `tensor`, uint8 [n] in host memory, from `root`; the others get it into theirs. One at a time."""
        ...

    def abort(self) -> None:
        """Give the group up, from any thread, whatever it is doing. Returns soon."""
        ...


def abort_once_joined(joining: Future[BroadcastGroup]) -> None:
    """Give up a group that is met in another thread, where that comes to one; returns at once."""

    def abort(joined: Future[BroadcastGroup]) -> None:
        if joined.exception() is None:
            joined.result().abort()

    joining.add_done_callback(abort)


@dataclass(frozen=True, slots=True)
class GroupRank:
    """One rank that is to meet the others.

    Attributes:
        store: where they meet.
        number: of the rank.
        world_size: number of ranks.
        address: of this node, to which the others connect.
        device: whose memory the bytes pass through, if they pass through any but the host's.
        deadline_seconds: longest wait for another rank, now and in each broadcast (s).
    """

    store: TCPStore
    number: int
    world_size: int
    address: str
    device: torch.device
    deadline_seconds: float


@dataclass
class GroupInfo:
    """What the sender tells of a group.

    Attributes:
        backend: name of what carries the bytes.
        master_address, master_port: where the ranks meet.
        rank_offset: rank of the receiver's first worker.
        world_size: number of ranks.
        bucket_bytes: as `buckets` has it.
        deadline_seconds: as `GroupRank` has it.
    """

    backend: str
    master_address: str
    master_port: int
    rank_offset: int
    world_size: int
    bucket_bytes: int
    deadline_seconds: float


@dataclass
class StripedInfo(GroupInfo):
    """The groups of all stripes, of which the first one's is told as a group alone is.

    Attributes:
        meet_at: host:port of the others, whose ranks are the same but for the first.
    """

    meet_at: list[str] = field(default_factory=list)
