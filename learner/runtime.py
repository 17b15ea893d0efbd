"""Settings of the process that make a training step faster on CPUs."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import torch

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next tensor.

    Every micro-batch allocates and frees the same tensors of a few megabytes. By default glibc returns them to the
    kernel each time, and faulting the pages in again costs up to half of a step of a small model.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        largest = 2**31 - 1
        libc.mallopt(M_MMAP_THRESHOLD, largest)
        libc.mallopt(M_TRIM_THRESHOLD, largest)


@contextlib.contextmanager
def bfloat16_products() -> Iterator[None]:
    """Inside, float32 matrix products on the CPU round their inputs to bfloat16; they still sum in float32."""
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before
