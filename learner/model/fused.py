"""Fewer passes over memory, and less of it kept: linear layers, norm, rotary embedding and gated MLP by hand.

The elementwise parts of a transformer layer cost as much as its matrix products when the model is small. Each function
here computes what the `transformers` module computes, with about half the passes, and keeps less for its backward pass;
`fuse` swaps them in and `Policy`'s self-check compares the outcome with the untouched model. On GPUs norm, rotary
embedding and gated unit are Liger's Triton kernels (Hsu et al. 2024), where the package `liger-kernel` is installed.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learner.model.gradients import gradient_of
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
    """x W^T in `dtype`; keeps W as it is and rounds it again in the backward pass, so that no second copy stays.

    `bf16_backward` rounds the inputs of the backward pass's products to bfloat16 where `dtype` is float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, dtype: torch.dtype, bf16_backward: bool) -> Tensor:
        ctx.bf16_backward, ctx.parameter = bf16_backward, w
        x = x.to(dtype)
        ctx.save_for_backward(x, w)
        return F.linear(x, w.to(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, w = ctx.saved_tensors
        return *_linear_gradients(gradients[0], x, w, ctx), None, None


class _SwiGlu(torch.autograd.Function):
    """silu(a) b; keeps a and b only, and recomputes silu(a)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return F.silu(a).mul_(b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        s = torch.sigmoid(a)
        return _gate_gradients(gradients[0], a * s, s, b)


class _GatedDown(torch.autograd.Function):
    """(silu(a) b) W^T as `_SwiGlu` and `_Linear` compute it; keeps a, b and W only, and recomputes the product."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, w: Tensor, bf16_backward: bool) -> Tensor:
        ctx.bf16_backward, ctx.parameter = bf16_backward, w
        ctx.save_for_backward(a, b, w)
        return F.linear(F.silu(a).mul_(b), w.to(a.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        a, b, w = ctx.saved_tensors
        s = torch.sigmoid(a)
        silu = a * s
        g, dw = _linear_gradients(gradients[0], silu * b, w, ctx)
        return *_gate_gradients(g, silu, s, b), dw, None


class _Embedding(torch.autograd.Function):
    """Rows of W [V, H]; the gradient is added to W's row by row, where there is one already."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, w: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.parameter, ctx.padding = w, padding
        return F.embedding(tokens, w)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor | None, None]:
        (tokens,), w = ctx.saved_tensors, ctx.parameter
        if (into := gradient_of(w, w.dtype)) is None:
            padding = -1 if ctx.padding is None else ctx.padding
            return None, torch.ops.aten.embedding_dense_backward(gradients[0], tokens, len(w), padding, False), None
        rows, ids = gradients[0].flatten(0, -2), tokens.flatten()
        if ctx.padding is not None:
            rows, ids = rows[ids != ctx.padding], ids[ids != ctx.padding]
        into.index_add_(0, ids, rows.to(into.dtype))
        return None, None, None


def _linear_gradients(g: Tensor, x: Tensor, w: Tensor, ctx: Any) -> tuple[Tensor, Tensor | None]:
    """Gradients of x W^T with respect to x, in the dtype of g, and to W, in W's; None where it was added to W's own."""
    with bfloat16_products() if ctx.bf16_backward else contextlib.nullcontext():
        dx, dw = g @ w.to(g.dtype), None
        if w.requires_grad:
            rows, x = g.flatten(0, -2).T, x.flatten(0, -2)
            if (into := gradient_of(ctx.parameter, w.dtype)) is None:
                dw = (rows @ x).to(w.dtype)
            elif into.dtype == g.dtype:
                into.addmm_(rows, x)
            else:
                into += rows @ x
    return dx, dw


def _gate_gradients(g: Tensor, silu: Tensor, s: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of silu(a) b with respect to a and b, from silu(a) and s = sigmoid(a); overwrites silu(a).

    d silu(a) / da = s + silu(a) (1 - s)
    """
    slope = torch.addcmul(silu, silu, s, value=-1).add_(s)
    return slope.mul_(b).mul_(g), silu.mul_(g)


@cache
def _liger() -> Any:
    """Liger's functions, or None without the package or the Triton that it needs."""
    try:
        return importlib.import_module("liger_kernel.transformers.functional")
    except ImportError:
        return None


def liger_for(x: Tensor) -> Any:
    """Liger's functions if they can compute with x, else None."""
    return _liger() if x.is_cuda else None


def rms_norm(x: Tensor, w: Tensor, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """x / sqrt(mean(x^2, -1) + eps) * w (Zhang & Sennrich 2019, eq. 4), rounded to `dtype` (default: that of x)."""
    if liger := liger_for(x):
        return liger.liger_rms_norm(x, w, eps, in_place=False).to(dtype or x.dtype)  # type: ignore[no-any-return]
    return _RmsNorm.apply(x, w, eps, dtype or x.dtype)  # type: ignore[no-any-return, no-untyped-call]


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate halves of the last dimension of x (Su et al. 2021, eq. 34, in the layout of `transformers`)."""
    return _Rotary.apply(x, cos, sin)  # type: ignore[no-any-return, no-untyped-call]


def linear(x: Tensor, w: Tensor, dtype: torch.dtype, bf16_backward: bool = False) -> Tensor:
    """x W^T, computed in `dtype`; with `bf16_backward`, float32 gradients of it are products of bfloat16 inputs."""
    return _Linear.apply(x, w, dtype, bf16_backward)  # type: ignore[no-any-return, no-untyped-call]


def swiglu(a: Tensor, b: Tensor) -> Tensor:
    """silu(a) * b (Shazeer 2020)."""
    return _SwiGlu.apply(a, b)  # type: ignore[no-any-return, no-untyped-call]


def gated_down(a: Tensor, b: Tensor, w: Tensor, bf16_backward: bool = False) -> Tensor:
    """(silu(a) * b) W^T (Shazeer 2020, eq. 6), computed in the dtype of a and b."""
    return _GatedDown.apply(a, b, w, bf16_backward)  # type: ignore[no-any-return, no-untyped-call]


def fuse(model: nn.Module, bf16_backward: bool = False) -> None:
    """Swap the fused functions into the modules of `model` that compute the same thing.

    Under autocast the residual stream stays float32; what autocast would round for every product that reads it is
    rounded once, where it is made. With `bf16_backward`, the backward products of every linear layer without a bias
    round their float32 inputs to bfloat16: with AMX units that is three to five times as fast. Only the layers, because
    the small products inside attention become many times slower.
    """
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            _replace_forward(module, _norm_forward)
        elif kind.endswith("MLP") and _is_gated(module):
            _replace_forward(module, _mlp_forward, bf16_backward)
        elif type(module) is nn.Linear and module.bias is None:
            _replace_forward(module, _linear_forward, bf16_backward)
        elif type(module) is nn.Embedding and not module.sparse and module.max_norm is None:
            _replace_forward(module, _embedding_forward)
    _fuse_rotary(sys.modules[type(model).__module__])


def _is_gated(module: nn.Module) -> bool:
    silu = type(getattr(module, "act_fn", None)).__name__ in ("SiLU", "SiLUActivation")
    projections = ("gate_proj", "up_proj", "down_proj")
    return silu and all(isinstance(getattr(module, name, None), nn.Linear) for name in projections)


def _replace_forward(module: Any, forward: Any, *settings: Any) -> None:
    # Not a closure over the module: copies of the model (the reference policy) must use their own weights.
    module.forward = partial(forward, module, *settings)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """What a product of float32 weights with x is computed in."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _linear_forward(self: Any, bf16_backward: bool, x: Tensor) -> Tensor:
    return linear(x, self.weight, _compute_dtype(x), bf16_backward)


def _embedding_forward(self: Any, tokens: Tensor) -> Tensor:
    if tokens.is_cuda:  # there rows are added in no fixed order
        return F.embedding(tokens, self.weight, self.padding_idx)
    return _Embedding.apply(tokens, self.weight, self.padding_idx)  # type: ignore[no-any-return, no-untyped-call]


def _norm_forward(self: Any, hidden_states: Tensor) -> Tensor:
    if hidden_states.dtype != torch.float32:
        return type(self).forward(self, hidden_states)  # type: ignore[no-any-return]
    return rms_norm(hidden_states, self.weight, self.variance_epsilon, _compute_dtype(hidden_states))


def _mlp_forward(self: Any, bf16_backward: bool, x: Tensor) -> Tensor:
    a, b = self.gate_proj(x), self.up_proj(x)
    down = self.down_proj
    if liger := liger_for(a):
        return down(liger.liger_swiglu(a, b))  # type: ignore[no-any-return]
    if type(down) is nn.Linear and down.bias is None:  # not once it has an adapter
        return gated_down(a, b, down.weight, bf16_backward)
    return down(swiglu(a, b))  # type: ignore[no-any-return]


def _fuse_rotary(module: Any) -> None:
    """Replace `apply_rotary_pos_emb` of a modelling module: attention calls it by its global name."""
    original = getattr(module, "apply_rotary_pos_emb", None)
    if original is None or getattr(original, "is_fused", False) or not _rotates_halves(original):
        return

    def apply_rotary_pos_emb(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        # Attention rounds to bfloat16 anyway; the rotation itself is computed in float32.
        if liger := liger_for(q):
            return liger.liger_rope(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)  # type: ignore[no-any-return]
        known = cos.dtype == torch.float32 and q.dtype in (torch.float32, torch.bfloat16)
        if not (known and cos.shape[-1] == q.shape[-1]):
            return original(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)  # type: ignore[no-any-return]
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return rotary(q, cos, sin), rotary(k, cos, sin)

    apply_rotary_pos_emb.is_fused = True  # type: ignore[attr-defined]
    module.apply_rotary_pos_emb = apply_rotary_pos_emb


def _rotates_halves(original: Any) -> bool:
    """Whether a model's own function computes what `rotary` does; some rotate neighbours, or take other arguments."""
    angles = torch.arange(12, dtype=torch.float32).view(1, 3, 4)
    cos, sin = (f(torch.cat((angles, angles), -1)) for f in (torch.cos, torch.sin))
    q, k = torch.arange(96, dtype=torch.float32).view(2, 1, 2, 3, 8).div(96).unbind(0)
    try:
        own = original(q, k, cos, sin)
    except (TypeError, RuntimeError, ValueError):
        return False
    ours = [rotary(x, cos.unsqueeze(1), sin.unsqueeze(1)) for x in (q, k)]
    return len(own) == 2 and all(a.shape == b.shape and torch.allclose(a, b) for a, b in zip(own, ours, strict=True))
