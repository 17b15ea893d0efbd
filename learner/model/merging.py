"""W + (alpha / r) B A. The learner and the receivers of adapters merge with the same function: on devices of one kind
the outcome is bit-identical.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from learner.errors import ModelError
from learner.model.base_weights import BaseWeights

A, B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class Merging:
    """What receivers of A and B must know beside the folder that they started from.

    Attributes:
        scale: alpha / r.
        dtype: name of the dtype that merged weights are rounded to, as if they had been sent in it.
        base: fingerprint of the learner's folder.
    """

    scale: float
    dtype: str
    base: str


def merge(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W + (alpha / r) B A (Hu et al. 2021, eq. 3) of W [out, in], A [r, in] and B [out, r], in float32."""
    return (b @ a).mul_(scale).add_(weight.float())


def merged_weights(
    folder: Path, adapters: Iterable[tuple[str, Tensor]], merging: Merging, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a folder with adapters merged in, each made when its turn comes: never a second model in memory.

    Args:
        folder: the model folder that the learner started from too.
        adapters: what `adapters.adapter_tensors` yields.
        merging: how they are merged.
        device: where they are merged.

    Returns:
        Names and tensors; merged ones are rounded to the dtype, the others are private views of the file.

    Raises:
        ModelError: at once, where the adapters are incomplete or do not belong to `folder`.
    """
    base = BaseWeights(folder)
    if base.fingerprint != merging.base:
        raise ModelError(
            f"{base.folder} holds other weights here than at the learner, so its adapters do not fit: give both the "
            "same folder, or set lora.broadcast: merged"
        )
    factors = dict(adapters)
    layers = {name.removesuffix(suffix) for name in factors for suffix in (A, B) if name.endswith(suffix)}
    for layer in sorted(layers):
        if f"{layer}.weight" not in base or layer + A not in factors or layer + B not in factors:
            raise ModelError(f"the adapter of {layer} is incomplete, or {base.folder} has no such layer")
    if len(factors) != 2 * len(layers):
        raise ModelError(f"{len(factors)} tensors are not {len(layers)} adapters; set lora.broadcast: merged")
    return _merged(base, factors, merging, device)


def _merged(
    base: BaseWeights, factors: dict[str, Tensor], merging: Merging, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    dtype = getattr(torch, merging.dtype)
    for name in base:
        layer = name.removesuffix(".weight")
        if layer + A in factors and layer != name:
            a, b = (factors[layer + part].to(device) for part in (A, B))
            yield name, merge(base[name].to(device), a, b, merging.scale).to(dtype)
        else:
            yield name, base[name]
