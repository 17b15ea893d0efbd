"""The receiving end of a broadcast, as a weight-transfer engine inside a vLLM worker."""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

from actors.weights.background import in_background
from actors.weights.buckets import Parameter, described
from actors.weights.group import StripedInfo
from actors.weights.joining import Joining, Received
from actors.weights.reload import reload
from actors.weights.staging import Staging
from learner.model.merging import Merging, merged_weights

Weights = Iterable[tuple[str, torch.Tensor]]


@dataclass
class StagedInitInfo(StripedInfo, WeightTransferInitInfo):
    """vLLM parses what it is sent by this."""


@dataclass
class StagedUpdateInfo(WeightTransferUpdateInfo):
    """The parameters of one update, as `messages.Update` has them."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]
    merging: dict[str, Any] | None = None
    delta: bool = False
    stripes: list[int] | None = None

    def parameters(self) -> list[Parameter]:
        return described(self.names, self.dtype_names, self.shapes)


class StagedWeightTransferEngine(WeightTransferEngine[StagedInitInfo, StagedUpdateInfo]):
    """Receives beside generation: `update_weights` returns at once and a thread fills a staging buffer;
    `finish_weight_update`, which the caller puts between pause and resume, swaps the staged tensors in. Adapters are
    merged then, a weight at a time, into the folder that vLLM was started from.

    Nothing here waits: a worker that does keeps its engine from generating.
    """

    init_info_cls = StagedInitInfo
    update_info_cls = StagedUpdateInfo
    defers_processing = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._joining: Joining | None = None
        self._staged: Future[tuple[Weights, Received]] | None = None
        self._staging = Staging()

    def init_transfer_engine(self, init_info: StagedInitInfo) -> None:
        """Start joining; returns at once, so that the engine keeps generating whoever else is late or dead."""
        self.shutdown()
        parallel = self.parallel_config
        worker = parallel.data_parallel_index * parallel.world_size + parallel.rank
        self._joining = Joining(init_info, worker, self.device)

    def start_weight_update(self) -> None:
        self._staged = None

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: StagedUpdateInfo) -> None:
        """Start receiving; returns at once.

        Raises:
            RuntimeError: where no group was opened.
        """
        if self._joining is None:
            raise RuntimeError("no group is open; call init_weight_transfer_engine first")
        joining, parameters, merging = self._joining, update_info.parameters(), update_info.merging

        def stage() -> tuple[Weights, Received]:
            tensors = joining.receive(parameters, self._staging, delta=update_info.delta, stripes=update_info.stripes)
            return tensors if merging is None else self._merged(tensors, merging), tensors

        self._staged = in_background(stage, "weight-receiver")

    def received(self) -> bool:
        """Whether everything is here; raises what broke the broadcast."""
        if self._staged is None or not self._staged.done():
            return False
        self._staged.result()
        return True

    def drain_pending(self) -> None:
        """Nothing to wait for: who calls `finish_weight_update` has asked `received` before."""

    def finish_weight_update(self) -> None:
        """Swap the staged tensors in.

        Raises:
            RuntimeError: where not everything is here; nothing was changed then.
        """
        staged, self._staged = self._staged, None
        if staged is None or not staged.done():
            raise RuntimeError("finish_weight_update before everything was received")
        weights, received = staged.result()
        reload(self.model, self.model_config, weights)
        self._staging.give_back(received)

    def abort(self) -> None:
        """Forget the update under way, and the group. The model is as it was: nothing is written before the swap."""
        self._staged = None
        self.shutdown()

    def _merged(self, adapters: Received, merging: dict[str, Any]) -> Weights:
        """Of all layers, adapted or not: vLLM fuses several into one, and passes over what is not loaded with them."""
        return merged_weights(Path(self.model_config.model), adapters, Merging(**merging), self.device)

    def shutdown(self) -> None:
        joining, self._joining = self._joining, None
        if joining is not None:
            joining.give_up()
