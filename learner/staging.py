"""A learner's state in host memory, from which a checkpoint is written while training goes on.

On a GPU the copies are pinned, made once and filled again by every checkpoint: who begins one makes sure that the one
before is written (`learner.checkpoint.Writer`). Otherwise torch makes fresh ones, which are gone once they are written.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.distributed.checkpoint._state_dict_stager import StateDictStager
from torch.distributed.checkpoint.staging import AsyncStager

from learner.model.snapshot import behind_copies, until_copied

log = logging.getLogger(__name__)


class PinnedStager(AsyncStager):
    """What torch's `DefaultStager` copies with, in the order of the optimizer step.

    The copies are queued on the stream of the step, behind the step before and ahead of the next one, and only they are
    waited for. `DefaultStager` either copies on a stream that does not wait for the step before, or waits for all of
    the device, where weights may be on their way to a generator that hangs.

    Args:
        device: of the state; on CPUs the copies are made at once, and not pinned.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = StateDictStager(pin_memory=device.type == "cuda")

    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Copies of a state's tensors, in the memory of those before.

        Raises:
            SnapshotError: on a GPU, where they are not made in time.
        """
        try:
            staged: dict[str, Any] = self._copies.stage(state_dict, non_blocking=True)
        except RuntimeError as error:
            if not self._copies.pin_memory:
                raise
            log.warning("host memory cannot be pinned (%s): checkpoints are copied more slowly from now on", error)
            self._copies = StateDictStager()
            return self.stage(state_dict)
        if self._device.type == "cuda":
            until_copied(behind_copies(self._device), "state")
        return staged

    def synchronize_staging(self) -> None:
        """It is done when `stage` returns."""
        return

    def close(self) -> None:
        """Give the memory back."""
        self._copies.close()  # type: ignore[no-untyped-call]


def stager_of(device: torch.device, offloaded: bool) -> AsyncStager | None:
    """What stages the state of a learner; None for torch's own, whose copies are fresh.

    Args:
        device: that it trains on.
        offloaded: whether its state is in host memory all the same.
    """
    return PinnedStager(device) if device.type == "cuda" and not offloaded else None
