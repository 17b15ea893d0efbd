"""Fewer passes over memory: norm, rotary embedding and gated MLP with hand-written backward passes.

The elementwise parts of a transformer layer cost as much as its matrix products when the model is small. Each function
here computes what the `transformers` module computes, with about half the passes; `fuse` swaps them in and
`Policy`'s self-check compares the outcome with the untouched model.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learner.runtime import bfloat16_products


class _RmsNorm(torch.autograd.Function):
    """y = x r w with r = 1 / sqrt(mean(x^2) + eps), rounded to `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, w, r)
        y: Tensor = x * r
        return y.mul_(w).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        # dx = r (g w - xhat mean(g w xhat)), dw = sum(g xhat), xhat = x r
        x, w, r = ctx.saved_tensors
        g = gradients[0].to(x.dtype)
        xhat = x * r
        product = g * xhat
        dw = product.flatten(0, -2).sum(0)
        shift = (product @ w).div_(-x.shape[-1]).unsqueeze(-1)
        return (g * w).addcmul_(xhat, shift).mul_(r), dw, None, None


class _SwiGlu(torch.autograd.Function):
    """silu(a) b; keeps a and b only, and recomputes silu(a)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return F.silu(a).mul_(b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        # d silu(a) / da = s + silu(a) (1 - s), s = sigmoid(a)
        (g,) = gradients
        a, b = ctx.saved_tensors
        s = torch.sigmoid(a)
        silu = a * s
        db = g * silu
        slope = torch.addcmul(silu, silu, s, value=-1).add_(s)
        return slope.mul_(b).mul_(g), db


class _Rotary(torch.autograd.Function):
    """x cos + rotate_half(x) sin for x [..., D], computed in the dtype of cos; the inverse rotation is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        half, wide = x.shape[-1] // 2, x.to(cos.dtype)
        out = wide * cos
        out[..., :half].addcmul_(wide[..., half:], sin[..., :half], value=-1)
        out[..., half:].addcmul_(wide[..., :half], sin[..., half:])
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (g,) = gradients
        cos, sin = ctx.saved_tensors
        half, wide = g.shape[-1] // 2, g.to(cos.dtype)
        out = wide * cos
        out[..., :half].addcmul_(wide[..., half:], sin[..., half:])
        out[..., half:].addcmul_(wide[..., :half], sin[..., :half], value=-1)
        return out.to(g.dtype), None, None


class _Linear(torch.autograd.Function):
    """x W^T in float32, with the two matrix products of its backward pass on bfloat16 inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return F.linear(x, w)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (g,) = gradients
        x, w = ctx.saved_tensors
        with bfloat16_products():
            dx = g @ w if ctx.needs_input_grad[0] else None
            dw = g.flatten(0, -2).T @ x.flatten(0, -2) if ctx.needs_input_grad[1] else None
        return dx, dw


def rms_norm(x: Tensor, w: Tensor, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """x / sqrt(mean(x^2, -1) + eps) * w (Zhang & Sennrich 2019, eq. 4), rounded to `dtype` (default: that of x)."""
    return _RmsNorm.apply(x, w, eps, dtype or x.dtype)  # type: ignore[no-any-return, no-untyped-call]


def swiglu(a: Tensor, b: Tensor) -> Tensor:
    """silu(a) * b (Shazeer 2020)."""
    return _SwiGlu.apply(a, b)  # type: ignore[no-any-return, no-untyped-call]


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate halves of the last dimension of x (Su et al. 2021, eq. 34, in the layout of `transformers`)."""
    return _Rotary.apply(x, cos, sin)  # type: ignore[no-any-return, no-untyped-call]


def fast_backward(model: nn.Module) -> None:
    """Let every bias-free linear layer of `model` round the inputs of its backward products to bfloat16.

    With AMX units such a product is three to five times as fast; losses, logprobs, gradients' sums and weights stay
    float32. Only the layers, because the small products inside attention become many times slower.
    """
    for module in model.modules():
        if type(module) is nn.Linear and module.bias is None:
            _replace_forward(module, _linear_forward)


def fuse(model: nn.Module) -> None:
    """Swap the fused functions into the modules of `model` that compute the same thing.

    Under autocast the residual stream stays float32; what autocast would round for every product that reads it is
    rounded once, where it is made.
    """
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            _replace_forward(module, _norm_forward)
        elif kind.endswith("MLP") and _is_gated(module):
            _replace_forward(module, _mlp_forward)
    _fuse_rotary(sys.modules[type(model).__module__])


def _is_gated(module: nn.Module) -> bool:
    silu = type(getattr(module, "act_fn", None)).__name__ in ("SiLU", "SiLUActivation")
    projections = ("gate_proj", "up_proj", "down_proj")
    return silu and all(isinstance(getattr(module, name, None), nn.Linear) for name in projections)


def _replace_forward(module: Any, forward: Any) -> None:
    module.forward = forward.__get__(module)


def _linear_forward(self: Any, x: Tensor) -> Tensor:
    return _Linear.apply(x, self.weight)  # type: ignore[no-any-return, no-untyped-call]


def _norm_forward(self: Any, hidden_states: Tensor) -> Tensor:
    if hidden_states.dtype != torch.float32:
        return type(self).forward(self, hidden_states)  # type: ignore[no-any-return]
    device = hidden_states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return rms_norm(hidden_states, self.weight, self.variance_epsilon, dtype)


def _mlp_forward(self: Any, x: Tensor) -> Tensor:
    return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))  # type: ignore[no-any-return]


def _fuse_rotary(module: Any) -> None:
    """Replace `apply_rotary_pos_emb` of a modelling module: attention calls it by its global name."""
    original = getattr(module, "apply_rotary_pos_emb", None)
    if original is None or getattr(original, "is_fused", False):
        return

    def apply_rotary_pos_emb(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        # Attention rounds to bfloat16 anyway; the rotation itself is computed in float32.
        known = cos.dtype == torch.float32 and q.dtype in (torch.float32, torch.bfloat16)
        if not (known and cos.shape[-1] == q.shape[-1]):
            return original(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)  # type: ignore[no-any-return]
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return rotary(q, cos, sin), rotary(k, cos, sin)

    apply_rotary_pos_emb.is_fused = True  # type: ignore[attr-defined]
    module.apply_rotary_pos_emb = apply_rotary_pos_emb
