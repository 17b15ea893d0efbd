"""The receiving end of a Gloo broadcast for engines that live in the generator's own process."""

import asyncio
from concurrent.futures import Future
from typing import Any

import torch

from actors.weights import gloo
from actors.weights.buckets import buckets, described
from actors.weights.staging import Staging
from learner.model.merging import Merging


class GlooReceiver:
    """The base of such engines: receives in a thread beside generation. An engine adds `finish_update`, which gets the
    tensors from `take`; where they are adapters alone, `merging` is set. Their memory may go back to `staging`.
    """

    workers = 1

    def __init__(self) -> None:
        self.merging: Merging | None = None
        self.staging = Staging()
        self._joining: Future[gloo.BroadcastGroup] | None = None
        self._info: dict[str, Any] = {}
        self._receiving: Future[list[tuple[str, torch.Tensor]]] | None = None

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

    async def start_update(self) -> None:
        """Nothing to prepare: the weights arrive beside generation."""

    async def receive_update(self, info: dict[str, Any]) -> None:
        """Start receiving; returns at once.

        Raises:
            RuntimeError: where no group was opened.
        """
        if self._joining is None:
            raise RuntimeError("the Gloo group is not open; call open_group first")
        parameters = described(info["names"], info["dtype_names"], info["shapes"])
        self.merging = Merging(**info["merging"]) if "merging" in info else None
        plan = list(buckets(parameters, self._info["bucket_bytes"]))
        deadline = self._info["deadline_seconds"]
        self._receiving = gloo.receive_in_background(self._joining, plan, self.staging, deadline)

    async def received(self) -> None:
        """Wait until the tensors of the update under way are here.

        Raises:
            RuntimeError: where no update is under way, or what broke the broadcast, which itself has a deadline.
        """
        if self._receiving is None:
            raise RuntimeError("no update is under way; call receive_update first")
        await asyncio.wrap_future(self._receiving)

    def take(self) -> list[tuple[str, torch.Tensor]]:
        """What was received; it is handed out once, and not kept."""
        receiving, self._receiving = self._receiving, None
        if receiving is None:
            raise RuntimeError("no update is under way; call receive_update first")
        return receiving.result(0)

    async def abort_update(self) -> None:
        """Forget the update under way, and the group."""
        self._joining = self._receiving = None
