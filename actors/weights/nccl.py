"""The sending end of an NCCL broadcast: vLLM's own engine, whose receivers write into their live parameters.

vLLM is imported only where it is used.
"""

from collections.abc import Iterator
from typing import Any

import torch

from actors.transport.address import Node, split
from actors.transport.store import serve_store
from actors.weights.background import in_background
from actors.weights.nccl_meeting import communicator
from actors.weights.session import SyncClient, Tensors, together


class NcclTransport:
    """Rank 0 of an NCCL group. `world_size` counts the workers of all generators and this process.

    The group is formed here and not by vLLM's `trainer_init`, which binds what it advertises, knows IPv4 alone and has
    pickled objects in its store.
    """

    def __init__(
        self,
        client: SyncClient,
        world_size: int,
        node: Node,
        dtype: torch.dtype,
        bucket_bytes: int,
        deadline_seconds: float,
    ) -> None:
        from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo, worker_init_payload
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerWeightTransferEngine

        self._source, self._dtype = _source(), dtype
        self._engine = NCCLTrainerWeightTransferEngine(
            client=client, source=self._source, packed_buffer_size_bytes=bucket_bytes
        )
        self._store, address = serve_store(node, world_size, deadline_seconds)
        host, port = split(address)
        info = NCCLWeightTransferInitInfo(
            master_address=host,
            master_port=port,
            rank_offset=1,
            world_size=world_size,
            packed=self._engine.packed,
            packed_buffer_size_bytes=bucket_bytes,
            packed_num_buffers=self._engine.packed_num_buffers,
        )
        device = torch.accelerator.current_device_index()
        self._engine.model_update_group = together(
            lambda: client.init_weight_transfer_engine(
                worker_init_payload(info) | {"deadline_seconds": deadline_seconds}
            ),
            lambda: communicator(self._store, 0, world_size, device, deadline_seconds),
        )

    def send(self, tensors: Tensors) -> int:
        self._source.tensors = [(name, tensor.to(self._dtype)) for name, tensor in tensors]
        try:
            self._engine.send_weights()
        finally:
            self._source.tensors = []
        return sum(tensor.numel() for _, tensor in tensors) * self._dtype.itemsize

    def close(self) -> None:
        """Abort the communicator: a broadcast in another thread, which waits for a rank that has died, ends by it.

        NCCL may take its time for it, so nobody waits.
        """
        in_background(self._engine.shutdown, "nccl-abort")


def _source() -> Any:
    """An empty `WeightSource` whose tensors are set before each round."""
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

    class ListSource(WeightSource):
        def __init__(self) -> None:
            self.tensors: list[tuple[str, torch.Tensor]] = []

        def metadata(self) -> list[ParamMeta]:
            return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self.tensors]

        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            return iter(self.tensors)

    return ListSource()
