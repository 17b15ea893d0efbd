"""Many ranks: FSDP2 sharding, and the few collectives a step needs. With one rank everything here is the identity."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from learner.errors import ModelError

Float64 = npt.NDArray[np.float64]


def world_size() -> int:
    """Ranks of the default process group, which the caller initialises; 1 without one."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's rank in the default process group; 0 without one."""
    return dist.get_rank() if dist.is_initialized() else 0


def shards(offload: bool) -> bool:
    """Whether models are sharded: over several ranks, or, with one, for what FSDP2 offloads."""
    return offload or world_size() > 1


def shard(policy: Any, dtype: torch.dtype, offload: bool = False) -> None:
    """FSDP2: one unit for every transformer layer and one for the rest; compute in `dtype`, reduce in float32.

    Args:
        policy: with the model that is sharded, on its device or on the meta device.
        dtype: of compute.
        offload: keep shards, gradients and so the optimizer's state in host memory. The shards must be loaded there; a
            group is formed where there is none, and it should have a backend for tensors on CPUs.

    Raises:
        ModelError: where the model has no list of layers.
    """
    layers = getattr(policy.model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(f"{type(policy.model).__name__} has no list of layers to shard; train it on one rank")
    if not dist.is_initialized():
        _form_group_of_one()
    mixed = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    place = CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if offload else OffloadPolicy()
    for layer in layers:
        fully_shard(layer, mp_policy=mixed, offload_policy=place)
    fully_shard(policy, mp_policy=mixed, offload_policy=place, reshard_after_forward=False)


def _form_group_of_one() -> None:
    """FSDP2 wants a group, also of one rank alone; it needs no network."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=0, world_size=1)


def reshard(policy: nn.Module) -> None:
    """Give back what a forward pass without a backward pass has gathered: it would hide the shards from optimizers."""
    if isinstance(policy, FSDPModule):
        policy.reshard()


def all_reduce(values: Mapping[str, float], device: torch.device, largest: bool = False) -> dict[str, float]:
    """The sum over all ranks of each of some numbers, or the largest of all ranks; every rank names the same ones."""
    if world_size() == 1:
        return dict(values)
    tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM)
    return dict(zip(values, tensor.tolist(), strict=True))


def all_reduce_sum(value: float, device: torch.device) -> float:
    """Sum of a number over all ranks."""
    return all_reduce({"": value}, device)[""]


def gather(own: Float64, device: torch.device) -> Float64:
    """The numbers [T_r] of all ranks r, in the order of ranks, on every rank."""
    if world_size() == 1:
        return own
    return torch.cat(_gathered(torch.from_numpy(own).to(device))).cpu().numpy()


def gather_texts(own: str, group: Any = None) -> list[str]:
    """The texts of all ranks, in the order of ranks, on every rank.

    Args:
        own: text of this rank.
        group: of all ranks, whose backend takes tensors on CPUs; None: the default one.
    """
    if world_size() == 1:
        return [own]
    data = torch.from_numpy(np.frombuffer(own.encode(), np.uint8).copy())
    return [text.numpy().tobytes().decode() for text in _gathered(data, group)]


def _gathered(own: Tensor, group: Any = None) -> list[Tensor]:
    """The tensors [T_r] of all ranks r, in the order of ranks, on every rank and on the device of `own`."""
    lengths = torch.zeros(world_size(), dtype=torch.int64, device=own.device)
    lengths[rank()] = len(own)
    dist.all_reduce(lengths, group=group)
    padded = own.new_zeros(max(1, int(lengths.max())))
    padded[: len(own)] = own
    gathered = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(gathered, padded, group=group)
    return [part[:length] for part, length in zip(gathered, lengths.tolist(), strict=True)]


def full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor from its shards; every rank must call it in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


#: Longest wait of a rank for another one in a collective beside the step's: it writes, or reads, a checkpoint.
BACKGROUND_TIMEOUT = timedelta(hours=1)
_background: tuple[Any, Any] | None = None


def background_group() -> Any:
    """A Gloo group for collectives beside the step's, which must not meet those on one group; None with one rank.

    The first call is a collective itself.
    """
    global _background
    if world_size() == 1:
        return None
    if _background is None or _background[0] is not dist.group.WORLD:
        _background = dist.group.WORLD, dist.new_group(backend="gloo", timeout=BACKGROUND_TIMEOUT)
    return _background[1]


def barrier() -> None:
    """Wait until every rank is here; the process group's timeout bounds it."""
    if world_size() > 1:
        dist.barrier()
