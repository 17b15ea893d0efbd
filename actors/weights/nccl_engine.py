"""The receiving end of an NCCL broadcast inside a vLLM worker: vLLM's own engine, and a way to give an update up."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine, NCCLWeightTransferUpdateInfo
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

from actors.transport.address import host_port
from actors.transport.store import reach_store
from actors.weights.background import in_background
from actors.weights.nccl_meeting import communicator


@dataclass(kw_only=True)
class NcclInitInfo(NCCLWeightTransferInitInfo):
    """`deadline_seconds`: longest wait for the other ranks (s)."""

    deadline_seconds: float


class AbortableNcclEngine(NCCLWeightTransferEngine):
    """It writes into the live weights, a layer at a time. An update can be given up while no byte of it has come."""

    init_info_cls = NcclInitInfo  # type: ignore[assignment] # vLLM parses the payload by it

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._joining: Future[Any] | None = None
        self._deadline = 0.0
        self._started = self._written = False

    def init_transfer_engine(self, init_info: NCCLWeightTransferInitInfo) -> None:
        """Start joining; returns at once. NCCL itself never gives up waiting for a rank that has died."""
        assert isinstance(init_info, NcclInitInfo)
        self.packed = init_info.packed
        self.packed_buffer_size_bytes = init_info.packed_buffer_size_bytes
        self.packed_num_buffers = init_info.packed_num_buffers
        self._deadline = init_info.deadline_seconds
        self.model_update_group = None

        address, port, size = init_info.master_address, init_info.master_port, init_info.world_size
        assert address is not None and port is not None
        parallel = self.parallel_config
        rank = init_info.rank_offset + parallel.data_parallel_index * parallel.world_size + parallel.rank

        def meet() -> Any:
            torch.accelerator.set_device_index(self.device.index or 0)  # the current device is a thread's own
            store = reach_store(host_port(address, port), size, self._deadline)
            return communicator(store, rank, size, torch.accelerator.current_device_index(), self._deadline)

        self._joining = in_background(meet, "rendezvous")

    def start_weight_update(self) -> None:
        self._started, self._written = True, False
        super().start_weight_update()

    def receive_weights(self, update_info: NCCLWeightTransferUpdateInfo) -> None:
        """Receive everything into the model. Blocks for as long as NCCL does.

        Raises:
            TimeoutError: where the group is not complete within the deadline; nothing was written then.
        """
        if self._joining is not None:
            self.model_update_group, self._joining = self._joining.result(self._deadline), None
        self._written = True
        super().receive_weights(update_info)

    def received(self) -> bool:
        """Whether everything is here: `receive_weights` returns no earlier."""
        return self._written

    def finish_weight_update(self) -> None:
        super().finish_weight_update()
        self._started = self._written = False

    def abort(self) -> None:
        """Put the weights back that `start_weight_update` has laid aside, and forget the group.

        Raises:
            RuntimeError: where some were overwritten: the engine holds two versions.
        """
        if self._written:
            raise RuntimeError("weights of the update that is given up were already written into the model")
        if self._started:
            finalize_layerwise_reload(self.model, self.model_config)  # type: ignore[no-untyped-call]
            self._started = False
        self._joining = None
        self.shutdown()
