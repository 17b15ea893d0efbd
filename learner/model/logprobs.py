"""Log-probabilities and entropies of a language-model head, in chunks, without tokens x vocabulary in memory.

With hidden state h_t, head W and temperature tau: z_t = W h_t / tau, and for the sampled token y_t

    log pi(y_t) = z_t[y_t] - logsumexp(z_t)                          H_t = logsumexp(z_t) - sum_v p_v z_t[v]
    d log pi(y_t) / d z_t[v] = 1[v = y_t] - p_v                      d H_t / d z_t[v] = -p_v (log p_v + H_t)

The forward pass keeps only H and logsumexp(z); the backward pass recomputes each chunk of logits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Rows of the head whose gradient is widened at a time: few enough to stay small, enough to keep the product fast.
WEIGHT_ROWS = 8192


class _Rows:
    """Memory for one chunk of logits, used by every chunk in turn: what is freed and made anew has its pages faulted in
    again, or leaves holes.
    """

    def __init__(self, hidden: Tensor, head: Tensor, temperature: float, chunk: int) -> None:
        self.head, self.temperature = head, temperature
        shape = (min(chunk, len(hidden)), len(head))
        self.narrow = hidden.new_empty(shape)
        wide = _wide(hidden)
        self.z = self.narrow if wide == hidden.dtype else hidden.new_empty(shape, dtype=wide)
        self.p = torch.empty_like(self.z)

    def fill(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Logits z [T, vocabulary] of hidden states [T, hidden size], and as much memory for probabilities."""
        count = len(hidden)
        torch.mm(hidden, self.head.T, out=self.narrow[:count])
        z = self.z[:count]
        if self.z is not self.narrow:
            z.copy_(self.narrow[:count])
        return (z if self.temperature == 1.0 else z.div_(self.temperature)), self.p[:count]

    def rounded(self, z: Tensor) -> Tensor:
        """z in the dtype of the hidden states."""
        return z if self.z is self.narrow else self.narrow[: len(z)].copy_(z)


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        rows = _Rows(hidden, weight.to(hidden.dtype), temperature, chunk)
        logprobs, entropy, normaliser = (hidden.new_empty(len(hidden), dtype=_wide(hidden)) for _ in range(3))
        for part in _chunks(len(hidden), chunk):
            z, p = rows.fill(hidden[part])
            largest = z.amax(-1, keepdim=True)
            total = torch.exp(z.sub_(largest), out=p).sum(-1, keepdim=True)
            log_p = z.sub_(total.log())
            normaliser[part] = (largest + total.log())[:, 0]
            logprobs[part] = log_p.gather(1, targets[part, None])[:, 0]
            entropy[part] = p.mul_(log_p).sum(-1).div_(-total[:, 0])
        ctx.save_for_backward(hidden, weight, targets, entropy, normaliser)
        ctx.temperature, ctx.chunk = temperature, chunk
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        # With respect to the logits before the temperature: one factor a token, not one pass over the logits.
        g_logprobs, g_entropy = (g / ctx.temperature for g in gradients)
        hidden, weight, targets, entropy, normaliser = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        # Summed over chunks in float32, whatever the chunks are computed in.
        d_weight = torch.zeros_like(weight, dtype=_wide(weight)) if ctx.needs_input_grad[1] else None
        rows = _Rows(hidden, weight.to(hidden.dtype), ctx.temperature, ctx.chunk)
        with_entropy = bool(g_entropy.any())
        for part in _chunks(len(hidden), ctx.chunk):
            z, p = rows.fill(hidden[part])
            log_p = z.sub_(normaliser[part, None])
            torch.exp(log_p, out=p)
            slope = -g_logprobs[part, None]
            if with_entropy:
                slope = log_p.add_(entropy[part, None]).mul_(-g_entropy[part, None]).add_(slope)
            d_z = rows.rounded(p.mul_(slope).scatter_add_(1, targets[part, None], g_logprobs[part, None]))
            if d_hidden is not None:
                torch.mm(d_z, rows.head, out=d_hidden[part])
            if d_weight is not None:
                _add_product(d_weight, d_z, hidden[part])
        return d_hidden, None if d_weight is None else d_weight.to(weight.dtype), None, None, None


def _add_product(total: Tensor, d_z: Tensor, hidden: Tensor) -> None:
    """total [vocabulary, hidden size] += d_z^T hidden, by slices where the product has to be widened first."""
    if total.dtype == d_z.dtype:
        total.addmm_(d_z.T, hidden)
        return
    for part in _chunks(len(total), WEIGHT_ROWS):
        total[part] += d_z[:, part].T @ hidden


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _chunks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def token_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """log pi(y_t) and the entropy H_t of the distribution at `temperature`; differentiable in hidden and weight.

    Args:
        hidden: [T, hidden size], in the dtype of the products.
        weight: [vocabulary, hidden size], in any dtype.
        targets: int64 [T].
        temperature: tau.
        chunk: rows of logits that exist at a time.

    Returns:
        Both [T], float32 or wider, in nats.
    """
    logprobs, entropy = _ChunkedLogprobs.apply(hidden, weight, targets, temperature, chunk)  # type: ignore[no-untyped-call]
    return logprobs, entropy
