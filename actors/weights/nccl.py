"""An NCCL group that carries host memory, through two chunks of the GPU's, beside whatever runs there.

NCCL itself never gives up waiting for a rank that has died, so nobody calls it before all ranks have met, and nobody
waits for a broadcast but by looking whether it is over. One that is not in time, or is given up, ends with its
communicator. vLLM is imported only where it is used.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from actors.weights.background import in_background
from actors.weights.group import BroadcastGroup, GroupRank, abort_once_joined

#: Of a bucket, so much at a time (bytes); two of these are all that a transfer takes of a GPU's memory.
CHUNK_BYTES = 64 * 2**20
#: How often it is looked whether a broadcast is over (s).
WATCH_SECONDS = 0.0005
_ID, _COUNT, _ALL = "nccl-id", "ranks", "all"


class NcclLine(Protocol):
    """A communicator with two chunks of its device's memory."""

    chunks: tuple[torch.Tensor, torch.Tensor]

    def copy(self, to: torch.Tensor, of: torch.Tensor) -> None:
        """Copy between host and device; over when it returns."""
        ...

    def broadcast(self, chunk: torch.Tensor) -> Callable[[], bool]:
        """Begin a broadcast from the first rank; what is returned says whether it is over."""
        ...

    def abort(self) -> None:
        """End whatever is under way. It may take its time."""
        ...


class CudaLine:
    """vLLM's communicator on streams of its own: the kernels of training or generation go on beside it.

    Args:
        communicator: a `PyNcclCommunicator`.
        device: that it is on.
        chunk_bytes: of each chunk.
    """

    def __init__(self, communicator: Any, device: torch.device, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._communicator = communicator
        self._copies, self._broadcasts = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
        first, second = (torch.empty(chunk_bytes, dtype=torch.uint8, device=device) for _ in range(2))
        self.chunks = first, second
        for stream in (self._copies, self._broadcasts):
            stream.wait_stream(torch.cuda.current_stream(device))  # which may still use memory that is now the chunks'

    def copy(self, to: torch.Tensor, of: torch.Tensor) -> None:
        with torch.cuda.stream(self._copies):
            to.copy_(of, non_blocking=True)
        self._copies.synchronize()  # copies alone are on it, so that it ends

    def broadcast(self, chunk: torch.Tensor) -> Callable[[], bool]:
        with torch.cuda.stream(self._broadcasts):
            self._communicator.broadcast(chunk, 0, self._broadcasts)
        event = self._broadcasts.record_event()
        return lambda: bool(event.query())

    def abort(self) -> None:
        self._communicator.destroy()


class NcclGroup:
    """A `BroadcastGroup`. `sends`: whether this is its first rank."""

    def __init__(self, line: NcclLine, sends: bool, deadline_seconds: float) -> None:
        self._line, self._sends, self._deadline = line, sends, deadline_seconds
        self._given_up = threading.Event()

    def broadcast(self, tensor: torch.Tensor, root: int) -> "Carried":
        """As `BroadcastGroup` has it; the root is the first rank."""
        assert root == 0
        return Carried(in_background(lambda: self._carry(tensor), "nccl-broadcast"))

    def _carry(self, tensor: torch.Tensor) -> None:
        """While one chunk is on its way, the other is filled, or emptied."""
        size = self._line.chunks[0].numel()
        parts = [tensor[start : start + size] for start in range(0, tensor.numel(), size)]
        under_way: tuple[torch.Tensor, torch.Tensor, Callable[[], bool]] | None = None
        for number, part in enumerate(parts):
            chunk = self._line.chunks[number % 2][: part.numel()]
            if self._sends:
                self._line.copy(chunk, part)
            begun = part, chunk, self._line.broadcast(chunk)
            if under_way is not None:
                self._end(*under_way)
            under_way = begun
        if under_way is not None:
            self._end(*under_way)

    def _end(self, part: torch.Tensor, chunk: torch.Tensor, over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._deadline
        while not over():
            if self._given_up.wait(WATCH_SECONDS):
                raise RuntimeError("the NCCL group was given up in the middle of a broadcast")
            if time.monotonic() > deadline:
                self.abort()
                raise TimeoutError(
                    f"a broadcast over NCCL was not over in {self._deadline:g} s: a rank hangs or has died"
                )
        if not self._sends:
            self._line.copy(part, chunk)

    def abort(self) -> None:
        """Abort the communicator: a kernel that waits for a dead rank ends by it. Nobody waits for the abort."""
        if not self._given_up.is_set():
            self._given_up.set()
            in_background(self._line.abort, "nccl-abort")


class Carried:
    """A `Broadcast` in a thread of its own."""

    def __init__(self, work: Future[None]) -> None:
        self._work = work

    def wait(self) -> None:
        self._work.result()  # it watches its own deadline


def join(rank: GroupRank) -> BroadcastGroup:
    """Meet the other ranks, and form a communicator.

    The group is formed here and not by vLLM's rendezvous, which binds what it advertises, knows IPv4 alone and has
    pickled objects in its store, which whoever reaches it can replace.

    Raises:
        torch.distributed.DistError: a rank did not come within the deadline.
        TimeoutError: all of them came, and one hangs, or has died, since.
        ValueError: what is in the store is no id.
    """
    from vllm.distributed.device_communicators.pynccl_wrapper import NCCLLibrary
    from vllm.distributed.weight_transfer.nccl_common import uid_init_process_group

    made = bytes(NCCLLibrary().ncclGetUniqueId().internal) if rank.number == 0 else None
    met = meet(rank.store, made, rank.world_size, rank.deadline_seconds)
    index = rank.device.index or 0

    def form() -> BroadcastGroup:
        torch.accelerator.set_device_index(index)  # the current device is a thread's own
        communicator = uid_init_process_group(met, rank.number, rank.world_size, index)
        return NcclGroup(CudaLine(communicator, rank.device), rank.number == 0, rank.deadline_seconds)

    forming = in_background(form, "nccl-init")
    if not wait([forming], rank.deadline_seconds).done:
        abort_once_joined(forming)
        raise TimeoutError(
            f"{rank.world_size} ranks have met, and no NCCL communicator of them came about in "
            f"{rank.deadline_seconds:g} s: one of them hangs or has died; see logs/generator-*.log, or what "
            "NCCL_DEBUG=INFO says there"
        )
    return forming.result()


def meet(store: TCPStore, made: bytes | None, world_size: int, deadline_seconds: float) -> bytes:
    """The id that the first rank, which gives it, has made; returns once all ranks have called this."""
    deadline = timedelta(seconds=deadline_seconds)
    if made is not None:
        store.set(_ID, made)  # type: ignore[arg-type] # the stubs know text alone
    if store.add(_COUNT, 1) == world_size:
        store.set(_ALL, "")
    store.wait([_ID, _ALL], deadline)
    return bytes(store.get(_ID))
