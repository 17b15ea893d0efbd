"""The receiving end of a Gloo broadcast for engines that live in the generator's own process."""

import asyncio
from concurrent.futures import Future
from typing import Any

import torch
from torch.distributed import ProcessGroupGloo, TCPStore

from actors.weights import gloo
from learner.model.merging import Merging


class GlooReceiver:
    """Receives in a thread beside generation; `received` waits for the tensors of the update under way.

    `merging` is set where they are adapters alone.
    """

    def __init__(self) -> None:
        self._joining: Future[tuple[ProcessGroupGloo, TCPStore]] | None = None
        self.merging: Merging | None = None
        self._info: dict[str, Any] = {}
        self._receiving: asyncio.Task[list[tuple[str, torch.Tensor]]] | None = None

    async def open_group(self, info: dict[str, Any]) -> None:
        """Start joining the broadcast group of a new epoch; the one before is given up."""
        self._info = info
        self._joining = gloo.join_in_background(
            info["master_address"],
            info["master_port"],
            info["rank_offset"],
            info["world_size"],
            info["deadline_seconds"],
        )

    async def receive_update(self, info: dict[str, Any]) -> None:
        """Start receiving; returns at once."""
        if self._joining is None:
            raise RuntimeError("the Gloo group is not open; call open_group first")
        parameters = gloo.described(info["names"], info["dtype_names"], info["shapes"])
        self.merging = Merging(**info["merging"]) if "merging" in info else None
        plan = list(gloo.buckets(parameters, self._info["bucket_bytes"]))
        joining, deadline = self._joining, self._info["deadline_seconds"]
        self._receiving = asyncio.create_task(
            asyncio.to_thread(lambda: gloo.receive(joining.result(deadline)[0], plan))
        )

    async def received(self) -> list[tuple[str, torch.Tensor]]:
        """Raises what broke the broadcast, which itself has a deadline."""
        if self._receiving is None:
            raise RuntimeError("no update is under way; call receive_update first")
        return await self._receiving
