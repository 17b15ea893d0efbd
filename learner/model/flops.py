"""What a training step costs, and what the device could do: model FLOP utilisation."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SECONDS = 0.2  # of measuring: long enough for a device to reach its clock
SIZES = {"cpu": 512, "cuda": 8192}  # rows of a product that is large for the device


def model_flops(parameters: int, tokens: float) -> float:
    """Forward and backward cost 6 FLOP a parameter and token, without attention (Kaplan et al. 2020, section 2.1).

    `parameters` are those that a token passes through: of a model with experts the active ones.
    """
    return 6.0 * parameters * tokens


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
