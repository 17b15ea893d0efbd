"""What a training step costs, and what the device could do: model FLOP utilisation."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SECONDS = 0.2  # of measuring: long enough for a device to reach its clock
SIZES = {"cpu": 512, "cuda": 8192}  # rows of a product that is large for the device


def model_flops(parameters: int, tokens: float) -> float:
    """Forward and backward cost 6 FLOP a parameter and token, without attention (Kaplan et al. 2020, section 2.1).

    `parameters` are those that a token passes through: of a model with experts the active ones.
    """
    return 6.0 * parameters * tokens


def attention_flops(width: float, tokens: float, context: float) -> float:
    """FLOP of causal attention, forward and backward: 6 a layer, width of the heads and token that is attended to.

    Dao 2023 (FlashAttention-2), section 4.1, without its recomputation.

    Args:
        width: of the heads, all layers together: L (queries + values) / 2.
        tokens: that attend.
        context: to how many the last of them attends; they attend to half of it in the mean.
    """
    return 6.0 * width * tokens * context


@dataclass(frozen=True, slots=True)
class StepCost:
    """What sequences cost that go through a model, forward and backward.

    Attributes:
        parameters: that a token passes through.
        width: of the heads, as `attention_flops` has it.
    """

    parameters: int
    width: float

    @classmethod
    def of(cls, config: Any, parameters: int) -> StepCost:
        """Of a model's `transformers` configuration, every layer of which is taken to attend to whole sequences."""
        text = config.get_text_config()
        ordinary = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        query = getattr(text, "qk_head_dim", None) or ordinary  # latent attention has two sizes of heads
        value = getattr(text, "v_head_dim", None) or ordinary
        return cls(parameters, text.num_hidden_layers * text.num_attention_heads * (query + value) / 2)

    def flops(self, tokens: int, rows: Iterable[int]) -> float:
        """FLOP of so many tokens, which attend in rows of those lengths."""
        return model_flops(self.parameters, tokens) + sum(attention_flops(self.width, row, row) for row in rows)


def peak_teraflops(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of large matrix products in `dtype` on one device with the threads that torch has; measured once."""
    import torch  # the formula above serves who plans a run where there is none

    return _measured(device, dtype, torch.get_num_threads())


@functools.cache
def _measured(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    import torch

    del threads  # a part of the cache's key
    size = SIZES[device.type]
    own = torch.Generator(device).manual_seed(0)  # measuring must not move the random state that training has
    a = torch.randn(size, size, device=device, dtype=dtype, generator=own)
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < SECONDS or best == float("inf"):
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e12
