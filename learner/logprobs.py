"""Log-probabilities and entropies of a language-model head, in chunks, without tokens x vocabulary in memory.

With hidden state h_t, head W and temperature tau: z_t = W h_t / tau, and for the sampled token y_t

    log pi(y_t) = z_t[y_t] - logsumexp(z_t)                          H_t = logsumexp(z_t) - sum_v p_v z_t[v]
    d log pi(y_t) / d z_t[v] = 1[v = y_t] - p_v                      d H_t / d z_t[v] = -p_v (log p_v + H_t)

The forward pass keeps only H; the backward pass recomputes each chunk of logits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        count = hidden.shape[0]
        head = weight.to(hidden.dtype)
        logprobs, entropy = (hidden.new_empty(count, dtype=_wide(hidden)) for _ in range(2))
        for part in _chunks(count, chunk):
            log_p = torch.log_softmax(_logits(hidden[part], head, temperature), dim=-1)
            logprobs[part] = log_p.gather(1, targets[part, None])[:, 0]
            entropy[part] = -torch.linalg.vecdot(torch.exp(log_p), log_p)
            del log_p  # or this chunk's would stay until the next chunk's logits have been computed
        ctx.save_for_backward(hidden, weight, targets, entropy)
        ctx.temperature, ctx.chunk = temperature, chunk
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        # With respect to the logits before the temperature: one factor a token, not one pass over the logits.
        g_logprobs, g_entropy = (g / ctx.temperature for g in gradients)
        hidden, weight, targets, entropy = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        # Summed over chunks in float32, whatever the chunks are computed in.
        d_weight = torch.zeros_like(weight, dtype=_wide(weight)) if ctx.needs_input_grad[1] else None
        head = weight.to(hidden.dtype)
        with_entropy = bool(g_entropy.any())
        for part in _chunks(hidden.shape[0], ctx.chunk):
            bonus = (g_entropy[part], entropy[part]) if with_entropy else None
            d_z = _logit_gradient(
                _logits(hidden[part], head, ctx.temperature), targets[part], g_logprobs[part], bonus
            ).to(hidden.dtype)
            if d_hidden is not None:
                torch.mm(d_z, head, out=d_hidden[part])
            if d_weight is not None:
                if d_weight.dtype == d_z.dtype:
                    d_weight.addmm_(d_z.T, hidden[part])
                else:
                    d_weight += d_z.T @ hidden[part]
            del d_z
        return d_hidden, None if d_weight is None else d_weight.to(weight.dtype), None, None, None


def _logit_gradient(z: Tensor, targets: Tensor, g_logprobs: Tensor, bonus: tuple[Tensor, Tensor] | None) -> Tensor:
    """Gradient [T, vocabulary] with respect to logits z, which it overwrites; `bonus`: (gradient of H, H), each [T]."""
    p = torch.softmax(z, dim=-1)
    slope = -g_logprobs[:, None]
    if bonus is not None:
        g_entropy, entropy = bonus
        log_p = z.sub_(torch.logsumexp(z, dim=-1, keepdim=True))
        slope = slope - g_entropy[:, None] * (log_p + entropy[:, None])
    return p.mul_(slope).scatter_add_(1, targets[:, None], g_logprobs[:, None])


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    z = (hidden @ weight.T).to(_wide(hidden))
    return z if temperature == 1.0 else z.div_(temperature)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _chunks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def token_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """log pi(y_t) and the entropy H_t of the distribution at `temperature`, both [T], float32 or wider, in nats.

    hidden: [T, hidden size], in the dtype of the products; weight: [vocabulary, hidden size], in any dtype;
    targets: int64 [T]. At most `chunk` rows of logits exist at a time. Differentiable in hidden and weight.
    """
    logprobs, entropy = _ChunkedLogprobs.apply(hidden, weight, targets, temperature, chunk)  # type: ignore[no-untyped-call]
    return logprobs, entropy
