"""Attention over packed sequences that cannot leak, as an attention implementation of `transformers`.

A layer that wants more of its attention than is computed here is refused by what it asks for: an argument that is not
known, or a mask that hides distant tokens without a sliding window.
"""

from __future__ import annotations

from collections.abc import Callable
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
PROBING_NAME = "leeway_probing"
#: Arguments that layers hand to every attention function, and that decide nothing here.
IRRELEVANT = frozenset(
    {
        "dropout",  # the loader sets all rates to zero
        "is_causal",  # the self-check would see a layer that is not
        "position_ids",
        "cache_position",
        "use_cache",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "routed_experts",  # the router's
    }
)
#: How far back a layer looks without a sliding window, at the least (tokens).
FAR = 1 << 24


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
        sliding_window: how many tokens back a token sees, itself included; None = all.
        kwargs: passed on to the ordinary attention.

    Returns:
        [1, N, heads, head size of the values], and None for the attention weights.

    Raises:
        ModelError: for arguments that would be ignored.
    """
    if layout is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, sliding_window=sliding_window, **kwargs
        )
        return output, None
    if unknown := sorted(key for key in kwargs.keys() - IRRELEVANT if kwargs[key] is not None):
        raise ModelError(f"{type(module).__name__} asks for {', '.join(unknown)}, which packed attention does not know")
    sizes = [rows * length for rows, length in layout.shapes]
    # One split, not one slice a bucket: the gradient of a slice is a full-sized tensor of zeros around it.
    heads = [x.shape[-1] for x in (query, key, value)]  # latent attention has other sizes for values
    rows_of = [to_rows(x[0].transpose(0, 1).flatten(1), layout) for x in (query, key, value)]
    buckets = zip(*(torch.split(x, sizes) for x in rows_of), strict=True)
    outputs = []
    for (rows, length), bucket in zip(layout.shapes, buckets, strict=True):
        q, k, v = (x.view(rows, length, -1, head).transpose(1, 2) for x, head in zip(bucket, heads, strict=True))
        out = _causal(q, k, v, scaling, sliding_window)
        outputs.append(out.transpose(1, 2).reshape(rows * length, -1))
    flat = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return from_rows(flat, layout).view(1, query.shape[2], -1, heads[-1]), None


def _causal(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Causal attention of rows [R, heads, L, head size] over the last `window` tokens, in the dtype of q."""
    options: dict[str, Any] = {"scale": scaling, "enable_gqa": q.shape[1] != k.shape[1]}
    length = q.shape[2]
    if window is None or length <= window:
        options["is_causal"] = True
    else:
        seen = torch.ones(length, length, dtype=torch.bool, device=q.device)
        options["attn_mask"] = seen.tril().triu(1 - window)
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, **options)
    # The CPU kernel's backward pass is two to three times as slow in bfloat16 as in float32, conversions included.
    with torch.autocast("cpu", enabled=False):
        wide = torch.promote_types(q.dtype, torch.float32)
        out = F.scaled_dot_product_attention(q.to(wide), k.to(wide), v.to(wide), **options)
        return out.to(q.dtype)


def probing_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """`packed_attention` which refuses a layer whose mask hides what no sliding window of its own does.

    Raises:
        ModelError: for chunked attention and its like; a probe is too short for its numbers to show them.
    """
    hides = attention_mask is not None and attention_mask.numel() > 0 and not bool(attention_mask.all())
    if hides and kwargs.get("sliding_window") is None:
        raise ModelError(f"{type(module).__name__} masks distant tokens, but not by a sliding window")
    return packed_attention(module, query, key, value, None, **kwargs)


def _far_mask(mask_function: Callable[..., Tensor], device: torch.device, **_: Any) -> Tensor:
    """[1, 1, 1, 1]: whether a token sees one that is `FAR` before it."""
    first, last = (torch.tensor([x], device=device) for x in (0, FAR))
    return mask_function(first, first, last, first).view(1, 1, 1, 1)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
AttentionInterface.register(PROBING_NAME, probing_attention)
AttentionMaskInterface.register(PROBING_NAME, _far_mask)
