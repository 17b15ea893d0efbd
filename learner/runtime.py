"""Where a process trains, and the settings of it that make a training step faster on CPUs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from learner.config import LearnerConfig

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
# Tensors above this are few (logits, gradients of embeddings), and leave holes that nothing else fits into.
LARGEST_KEPT_BYTES = 40 << 20
# Of a sequence longer than a micro-batch even those of a hidden state are large, and what the backward pass needs lies
# between the holes that others leave: a fifth to a third of a pass's peak, for 6 to 11 % of its time.
LARGEST_KEPT_OF_LONG_BYTES = 4 << 20
# oneDNN keeps 1,024 by default: a hundred megabytes of code after some dozen micro-batches.
KEPT_PRIMITIVES = 32


def tune_allocator() -> None:
    """Tell glibc to keep freed memory for the next tensor, and oneDNN to remember fewer shapes.

    Every micro-batch allocates and frees the same tensors of a few megabytes. By default glibc returns them to the
    kernel each time, and faulting the pages in again costs up to half of a step of a small model. Every micro-batch
    also has lengths of its own, so that what oneDNN compiles and keeps for them is seldom used again. Call it before
    the first matrix product.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_PRIMITIVES))
    keep_freed(LARGEST_KEPT_BYTES)


def keep_freed(largest: int) -> None:
    """Have glibc keep freed blocks up to a size (bytes) for the next tensor, and give larger ones back at once.

    It may be called at any time, and holds for what is allocated from then on.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, largest)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def fit_allocator(tokens: Tensor, budget: int) -> None:
    """Tell glibc how much to keep in a pass of `tokens` [T], where a micro-batch has at most `budget`."""
    if tokens.device.type == "cpu":
        keep_freed(LARGEST_KEPT_OF_LONG_BYTES if len(tokens) > budget else LARGEST_KEPT_BYTES)


def device_of(config: LearnerConfig) -> torch.device:
    """Where to train: the CPU, or the GPU that this process has chosen."""
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


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
