"""The sending end of a weight broadcast, chosen by one string: `gloo` is ours, `nccl` is vLLM's own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Protocol

import torch

from actors.transport.address import Node, listen, split
from actors.transport.store import serve_store
from actors.weights import gloo

Tensors = Sequence[tuple[str, torch.Tensor]]


class SyncClient(Protocol):
    """What a transport asks of the generators; the same four calls as vLLM's `VLLMWeightSyncClient`."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...

    def start_weight_update(self) -> None: ...

    def update_weights(self, update_info: Any) -> None: ...

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


class Transport(Protocol):
    """A broadcast group of one membership epoch."""

    def send(self, tensors: Tensors) -> int:
        """Broadcast all tensors and let the generators swap them in; returns the bytes, counted once."""
        ...

    def close(self) -> None: ...


class GlooTransport:
    """Rank 0 of a Gloo group. `world_size` counts the workers of all generators and this process."""

    def __init__(
        self,
        client: SyncClient,
        node: Node,
        world_size: int,
        dtype: torch.dtype,
        bucket_bytes: int,
        deadline_seconds: float,
    ) -> None:
        self._client, self._dtype, self._bucket_bytes = client, dtype, bucket_bytes
        self._store, meeting = serve_store(node, world_size, deadline_seconds)
        host, port = split(meeting)
        info = {
            "master_address": host,
            "master_port": port,
            "rank_offset": 1,
            "world_size": world_size,
            "bucket_bytes": bucket_bytes,
            "deadline_seconds": deadline_seconds,
        }
        self._group = _together(
            lambda: client.init_weight_transfer_engine(info),
            lambda: gloo.join(self._store, node.advertise, 0, world_size, deadline_seconds),
        )

    def send(self, tensors: Tensors) -> int:
        parameters = [gloo.Parameter(name, self._dtype, tuple(tensor.shape)) for name, tensor in tensors]
        plan = list(gloo.buckets(parameters, self._bucket_bytes))
        self._client.start_weight_update()
        self._client.update_weights(
            {
                "names": [p.name for p in parameters],
                "dtype_names": [str(self._dtype).removeprefix("torch.")] * len(parameters),
                "shapes": [list(p.shape) for p in parameters],
            }
        )
        sent = gloo.send(self._group, iter(tensors), plan)
        self._client.finish_weight_update()
        return sent

    def close(self) -> None:
        self._group.abort()


def _together(aside: Callable[[], None], here: Callable[[], Any]) -> Any:
    """Run both at once; whichever fails first is raised without waiting for the other, which ends by its deadline."""
    pool = ThreadPoolExecutor(2, thread_name_prefix="rendezvous")
    try:
        futures = [pool.submit(aside), pool.submit(here)]
        for done in wait(futures, return_when=FIRST_EXCEPTION).done:
            done.result()
        return futures[1].result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class NcclTransport:
    """vLLM's trainer side of its own NCCL engine."""

    def __init__(
        self,
        client: SyncClient,
        node: Node,
        world_size: int,
        dtype: torch.dtype,
        bucket_bytes: int,
        deadline_seconds: float,  # noqa: ARG002 - vLLM's group has no deadline of its own; the client's calls have
    ) -> None:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        self._source = _source()
        self._dtype = dtype
        info = NCCLTrainerInitInfo(
            rank=0,
            master_address=node.advertise,
            master_port=_free_port(node),
            world_size=world_size,
            packed_buffer_size_bytes=bucket_bytes,
        )
        self._engine = WeightTransferTrainerFactory.trainer_init(info, client=client, source=self._source)

    def send(self, tensors: Tensors) -> int:
        self._source.tensors = [(name, tensor.to(self._dtype)) for name, tensor in tensors]
        try:
            self._engine.send_weights()
        finally:
            self._source.tensors = []
        return sum(tensor.numel() for _, tensor in tensors) * self._dtype.itemsize

    def close(self) -> None:
        self._engine.shutdown()


def _free_port(node: Node) -> int:
    with listen(node) as probe:
        return int(probe.getsockname()[1])


def _source() -> Any:
    """An empty `WeightSource` whose tensors are set before each round; vLLM is imported only where it is used."""
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

    class ListSource(WeightSource):
        def __init__(self) -> None:
            self.tensors: list[tuple[str, torch.Tensor]] = []

        def metadata(self) -> list[ParamMeta]:
            return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self.tensors]

        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            return iter(self.tensors)

    return ListSource()


TRANSPORTS: dict[str, Callable[..., Transport]] = {"gloo": GlooTransport, "nccl": NcclTransport}
