"""The receiving end of a Gloo broadcast for engines that live in the generator's own process."""

import asyncio
from typing import Any

import torch
from torch.distributed import ProcessGroupGloo, TCPStore

from actors.weights import gloo


class GlooReceiver:
    """Receives in a thread beside generation; `received` waits for the tensors of the update under way."""

    def __init__(self) -> None:
        self._store: TCPStore | None = None
        self._group: ProcessGroupGloo | None = None
        self._bucket_bytes = 0
        self._receiving: asyncio.Task[list[tuple[str, torch.Tensor]]] | None = None

    async def open_group(self, info: dict[str, Any]) -> None:
        """Join the broadcast group of a new epoch. Raises torch.distributed.DistError where the others do not come."""

        def join() -> None:
            world, deadline = info["world_size"], info["deadline_seconds"]
            self._store = gloo.reach(info["master_address"], info["master_port"], world, deadline)
            self._group = gloo.join(self._store, info["rank_offset"], world, deadline)
            self._bucket_bytes = info["bucket_bytes"]

        await asyncio.to_thread(join)

    async def receive_update(self, info: dict[str, Any]) -> None:
        """Start receiving; returns at once."""
        if self._group is None:
            raise RuntimeError("the Gloo group is not open; call open_group first")
        named = zip(info["names"], info["dtype_names"], info["shapes"], strict=True)
        parameters = [gloo.Parameter(name, getattr(torch, dtype), tuple(shape)) for name, dtype, shape in named]
        plan = list(gloo.buckets(parameters, self._bucket_bytes))
        self._receiving = asyncio.create_task(asyncio.to_thread(gloo.receive, self._group, plan))

    async def received(self) -> list[tuple[str, torch.Tensor]]:
        """Raises what broke the broadcast, which itself has a deadline."""
        if self._receiving is None:
            raise RuntimeError("no update is under way; call receive_update first")
        return await self._receiving
