"""Gradients of weights, added where they are: to `.grad`, without a tensor of their own for every micro-batch.

Autograd would give each product memory of its own, and add it up afterwards: of a tied embedding twice at once, each as
large as the vocabulary. On CPUs `.grad` also comes first (`init_gradients`), or it would lie scattered between the
activations.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


def gradient_of(parameter: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What a gradient of `dtype` may be added to in place; a function that does so returns None as the gradient.

    None where there is nothing yet, or where somebody else adds it up (FSDP).
    """
    if not parameter.is_leaf or (found := parameter.grad) is None:
        return None
    return None if isinstance(found, DTensor) or found.dtype != dtype else found


def init_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter a gradient of zeros, into which backward passes add."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
