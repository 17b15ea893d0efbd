"""How the ranks of an NCCL group meet: its id as raw bytes in a store, and nobody calls NCCL before all are there.

vLLM would put a pickled object into the store, which whoever reaches it can replace. And NCCL itself waits for ever for
a rank that does not come, where a store has a deadline.

vLLM is imported only where it is used.
"""

from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

_ID, _COUNT, _ALL = "nccl-id", "ranks", "all"


def communicator(store: TCPStore, rank: int, world_size: int, device: int, deadline_seconds: float) -> Any:
    """vLLM's communicator for one rank of a group. The first makes the id.

    Raises:
        torch.distributed.DistError: a rank did not come within the deadline.
        ValueError: what is in the store is no id.
    """
    from vllm.distributed.device_communicators.pynccl_wrapper import NCCLLibrary
    from vllm.distributed.weight_transfer.nccl_common import uid_init_process_group

    made = bytes(NCCLLibrary().ncclGetUniqueId().internal) if rank == 0 else None
    return uid_init_process_group(meet(store, made, world_size, deadline_seconds), rank, world_size, device)


def meet(store: TCPStore, made: bytes | None, world_size: int, deadline_seconds: float) -> bytes:
    """The id that the first rank, which gives it, has made; returns once all ranks have called this."""
    deadline = timedelta(seconds=deadline_seconds)
    if made is not None:
        store.set(_ID, made)  # type: ignore[arg-type] # the stubs know text alone
    if store.add(_COUNT, 1) == world_size:
        store.set(_ALL, "")
    store.wait([_ID, _ALL], deadline)
    return bytes(store.get(_ID))
