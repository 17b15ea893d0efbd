"""Mixtures of experts: which modules choose, and how much of the model a token passes through."""

from __future__ import annotations

from typing import Any

from torch import nn


def is_router(module: nn.Module) -> bool:
    """Whether a module chooses experts, by what all routers of `transformers` have."""
    return type(module).__name__.endswith("Router") and hasattr(module, "top_k") and hasattr(module, "num_experts")


def idle_parameters(model: nn.Module) -> int:
    """How many parameters a token does not pass through: those of the experts that it is not routed to.

    Count before the model is sharded: experts are told by their first dimension.
    """
    idle = 0
    for block in model.modules():
        children: list[Any] = list(block.children())
        for router in filter(is_router, children):
            fused = [p for child in children if child is not router for p in child.parameters(recurse=False)]
            routed = sum(p.numel() for p in fused if p.ndim > 2 and p.shape[0] == router.num_experts)
            idle += routed * (router.num_experts - router.top_k) // router.num_experts
    return idle
