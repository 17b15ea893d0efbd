"""The receiving end of a broadcast for engines that live in the generator's own process."""

import asyncio
from concurrent.futures import Future
from typing import Any

import torch

from actors.weights.background import in_background
from actors.weights.buckets import described
from actors.weights.group import StripedInfo
from actors.weights.joining import Joining, Received
from actors.weights.staging import Staging
from learner.model.merging import Merging


class StagedReceiver:
    """The base of such engines: receives in a thread beside generation. An engine adds `finish_update`, which gets the
    tensors from `take`; where they are adapters alone, `merging` is set. Their memory may go back to `staging`.
    """

    workers = 1

    def __init__(self) -> None:
        self.merging: Merging | None = None
        self.staging = Staging()
        self._joining: Joining | None = None
        self._receiving: Future[Received] | None = None

    async def open_group(self, info: dict[str, Any]) -> None:
        """Start joining the broadcast groups of a new epoch; those before are given up."""
        await self.abort_update()
        self._joining = Joining(StripedInfo(**info), 0, torch.device("cpu"))

    async def start_update(self) -> None:
        """Nothing to prepare: the weights arrive beside generation."""

    async def receive_update(self, info: dict[str, Any]) -> None:
        """Start receiving; returns at once.

        Raises:
            RuntimeError: where no group was opened.
        """
        if (joining := self._joining) is None:
            raise RuntimeError("no group is open; call open_group first")
        parameters = described(info["names"], info["dtype_names"], info["shapes"])
        self.merging = Merging(**info["merging"]) if "merging" in info else None
        delta, stripes = info["delta"], info.get("stripes")
        self._receiving = in_background(
            lambda: joining.receive(parameters, self.staging, delta=delta, stripes=stripes), "weight-receiver"
        )

    async def received(self) -> None:
        """Wait until the tensors of the update under way are here.

        Raises:
            RuntimeError: where no update is under way, or what broke the broadcast, which itself has a deadline.
        """
        if self._receiving is None:
            raise RuntimeError("no update is under way; call receive_update first")
        await asyncio.wrap_future(self._receiving)

    def take(self) -> Received:
        """What was received; it is handed out once, and not kept."""
        receiving, self._receiving = self._receiving, None
        if receiving is None:
            raise RuntimeError("no update is under way; call receive_update first")
        return receiving.result(0)

    async def abort_update(self) -> None:
        """Forget the update under way, and the group."""
        joining, self._joining, self._receiving = self._joining, None, None
        if joining is not None:
            joining.give_up()
