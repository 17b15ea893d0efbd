"""Attention over packed sequences that cannot leak, as an attention implementation of `transformers`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from learner.errors import ModelError
from learner.model.packing import Layout

NAME = "leeway_packed"


class _ToRows(torch.autograd.Function):
    """x [N, F] -> attention rows [R, F]. The backward pass gathers too; only shared prompts need a scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return x.index_select(0, layout.rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        layout: Layout = ctx.layout
        out = gradient.index_select(0, layout.inverse)
        if len(layout.shared_slots):
            out.index_add_(0, layout.shared_tokens, gradient.index_select(0, layout.shared_slots))
        return out, None


class _FromRows(torch.autograd.Function):
    """Attention rows [R, F] -> x [N, F], each token from one of its slots."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layout: Layout) -> Tensor:
        ctx.layout, ctx.slots = layout, rows.shape[0]
        return rows.index_select(0, layout.inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        out = gradient.new_zeros(ctx.slots, gradient.shape[1])
        return out.index_copy_(0, ctx.layout.inverse, gradient), None


def to_rows(x: Tensor, layout: Layout) -> Tensor:
    """Packed x [N, F] as attention rows [R, F]."""
    rows: Tensor = _ToRows.apply(x, layout)  # type: ignore[no-untyped-call]
    return rows


def from_rows(rows: Tensor, layout: Layout) -> Tensor:
    """Attention rows [R, F] as packed x [N, F]."""
    x: Tensor = _FromRows.apply(rows, layout)  # type: ignore[no-untyped-call]
    return x


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside every sequence of a packed micro-batch.

    Args:
        module: the attention layer.
        query, key, value: [1, heads, N, head size].
        attention_mask: what `transformers` made; used without a `layout` only.
        layout: where the packed tokens lie. Without one (generation, evaluation) this is the ordinary SDPA attention.
        scaling: factor of the scores; None = 1 / sqrt(head size).
        sliding_window: the model's, tokens.
        kwargs: passed on to the ordinary attention.

    Returns:
        [1, N, heads, head size], and None for the attention weights.

    Raises:
        ModelError: for a sequence that is longer than the sliding window.
    """
    if layout is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, sliding_window=sliding_window, **kwargs
        )
        return output, None
    if sliding_window is not None and max(length for _, length in layout.shapes) > sliding_window:
        raise ModelError(f"sequences exceed the model's sliding window of {sliding_window}; packed training lacks it")
    head = query.shape[-1]
    sizes = [rows * length for rows, length in layout.shapes]
    # One split, not one slice a bucket: the gradient of a slice is a full-sized tensor of zeros around it.
    rows_of = [to_rows(x[0].transpose(0, 1).flatten(1), layout) for x in (query, key, value)]
    buckets = zip(*(torch.split(x, sizes) for x in rows_of), strict=True)
    outputs = []
    for (rows, length), bucket in zip(layout.shapes, buckets, strict=True):
        q, k, v = (x.view(rows, length, -1, head).transpose(1, 2) for x in bucket)
        out = _causal(q, k, v, scaling)
        outputs.append(out.transpose(1, 2).reshape(rows * length, -1))
    flat = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return from_rows(flat, layout).view(1, query.shape[2], -1, head), None


def _causal(q: Tensor, k: Tensor, v: Tensor, scaling: float | None) -> Tensor:
    """Causal attention of rows [R, heads, L, head size], in the dtype of q."""
    grouped = q.shape[1] != k.shape[1]
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
    # The CPU kernel's backward pass is two to three times as slow in bfloat16 as in float32, conversions included.
    with torch.autocast("cpu", enabled=False):
        wide = torch.promote_types(q.dtype, torch.float32)
        out = F.scaled_dot_product_attention(
            q.to(wide), k.to(wide), v.to(wide), is_causal=True, scale=scaling, enable_gqa=grouped
        )
        return out.to(q.dtype)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
