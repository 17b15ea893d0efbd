"""AdamW (Loshchilov & Hutter 2019) with warm-up and decay, and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from learner.config import OptimizerConfig
from learner.distributed.ranks import full_tensor


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> tuple[torch.optim.AdamW, LambdaLR]:
    """AdamW (fused; decay on matrices only) and its schedule."""
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,
    )
    return optimizer, schedule(optimizer, config)


def schedule(optimizer: torch.optim.Optimizer, config: OptimizerConfig, steps: int = 0) -> LambdaLR:
    """The schedule of an optimizer that has taken `steps` steps; the rate becomes that of the next one."""
    for group in optimizer.param_groups:
        group["initial_lr"] = config.learning_rate
    return LambdaLR(optimizer, lambda step: rate_fraction(step, config), last_epoch=steps - 1)


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Take over the moments and step counts of a saved state; rates, decay and all else stay as configured."""
    configured = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": saved["state"], "param_groups": configured})


def init_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter its state now, instead of in the first step: a checkpoint can then be loaded into it."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if not optimizer.state[p]:
                optimizer.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }


def rate_fraction(step: int, config: OptimizerConfig) -> float:
    """Rate of optimizer step `step` (from 0) over its peak: linear warm-up, then constant or a cosine to the end."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.decay_steps == 0:
        return 1.0
    progress = min((step - config.warmup_steps) / config.decay_steps, 1.0)
    return config.final_fraction + (1 - config.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Clip the global gradient norm to `largest` (0 = no clipping).

    Returns:
        The norm before; nan or inf if any gradient is.
    """
    with_gradient = [p for p in parameters if p.grad is not None]
    norm = torch.nn.utils.clip_grad_norm_(with_gradient, largest or math.inf)
    return float(full_tensor(norm))
