"""Log-probabilities and entropies of a language-model head, in chunks, without tokens x vocabulary in memory.

With hidden state h_t, head W and temperature tau: z_t = W h_t / tau, and for the sampled token y_t

    log pi(y_t) = z_t[y_t] - logsumexp(z_t)                          H_t = logsumexp(z_t) - sum_v p_v z_t[v]
    d log pi(y_t) / d z_t[v] = 1[v = y_t] - p_v                      d H_t / d z_t[v] = -p_v (log p_v + H_t)

The forward pass keeps only H and logsumexp(z); the backward pass recomputes the logits, of a chunk of tokens and
a block of the vocabulary at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from learner.model.gradients import gradient_of

# Tokens of the vocabulary whose logits exist at a time: few enough to stay small, enough to keep the products fast.
BLOCK = 8192


class _Logits:
    """Memory for the logits of one chunk and one block of the vocabulary, used by all in turn: what is freed and made
    anew has its pages faulted in again, or leaves holes.
    """

    def __init__(self, hidden: Tensor, head: Tensor, temperature: float, chunk: int) -> None:
        self.head, self.temperature, self.dtype = head, temperature, hidden.dtype
        size = min(chunk, len(hidden)) * min(BLOCK, len(head))
        self.narrow = hidden.new_empty(size)
        wide = _wide(hidden)
        self.z = self.narrow if wide == hidden.dtype else hidden.new_empty(size, dtype=wide)
        self.p = torch.empty_like(self.z)

    def fill(self, hidden: Tensor, block: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Logits z [T, B] of hidden states [T, hidden size], as much memory for probabilities, and the head's rows."""
        rows = self.head[block].to(self.dtype)
        narrow, z, p = (part[: len(hidden) * len(rows)].view(-1, len(rows)) for part in (self.narrow, self.z, self.p))
        torch.mm(hidden, rows.T, out=narrow)
        if self.z is not self.narrow:
            z.copy_(narrow)
        return (z if self.temperature == 1.0 else z.div_(self.temperature)), p, rows

    def rounded(self, z: Tensor) -> Tensor:
        """z in the dtype of the hidden states."""
        return z if self.z is self.narrow else self.narrow[: z.numel()].view(z.shape).copy_(z)


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logits = _Logits(hidden, weight, temperature, chunk)
        logprobs, entropy, normaliser = (hidden.new_empty(len(hidden), dtype=_wide(hidden)) for _ in range(3))
        for part in _chunks(len(hidden), chunk):
            top, total, mean, chosen = _summed(logits, hidden[part], targets[part])
            normaliser[part] = top + total.log()
            logprobs[part] = (chosen - top).sub_(total.log())
            entropy[part] = total.log() - mean.div_(total)
        ctx.save_for_backward(hidden, weight, targets, entropy, normaliser)
        ctx.temperature, ctx.chunk, ctx.parameter = temperature, chunk, weight
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        # With respect to the logits before the temperature: one factor a token, not one pass over the logits.
        g_logprobs, g_entropy = (g / ctx.temperature for g in gradients)
        hidden, weight, targets, entropy, normaliser = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_weight, in_place = None, False
        if ctx.needs_input_grad[1]:
            # Summed over chunks in float32, whatever the chunks are computed in.
            in_place = (d_weight := gradient_of(ctx.parameter, _wide(weight))) is not None
            d_weight = torch.zeros_like(weight, dtype=_wide(weight)) if d_weight is None else d_weight
        logits = _Logits(hidden, weight, ctx.temperature, ctx.chunk)
        with_entropy = bool(g_entropy.any())
        for part in _chunks(len(hidden), ctx.chunk):
            into = hidden.new_zeros(hidden[part].shape, dtype=_wide(hidden)) if d_hidden is not None else None
            for block in _chunks(len(weight), BLOCK):
                z, p, rows = logits.fill(hidden[part], block)
                log_p = z.sub_(normaliser[part, None])
                torch.exp(log_p, out=p)
                slope = -g_logprobs[part, None]
                if with_entropy:
                    slope = log_p.add_(entropy[part, None]).mul_(-g_entropy[part, None]).add_(slope)
                place, inside = _within(targets[part], block)
                d_z = logits.rounded(p.mul_(slope).scatter_add_(1, place, (g_logprobs[part] * inside)[:, None]))
                if into is not None:
                    _add_product(into, d_z, rows)
                if d_weight is not None:
                    _add_product(d_weight[block], d_z.T, hidden[part])
            if d_hidden is not None and into is not None:
                d_hidden[part] = into
        return d_hidden, None if in_place or d_weight is None else d_weight.to(weight.dtype), None, None, None


def _summed(logits: _Logits, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """m = max_v z[v], sum_v e^(z[v] - m), sum_v e^(z[v] - m) (z[v] - m), and z[y], block by block; all [T].

    When a block raises m by d, the first sum shrinks to e^-d of itself (Milakov & Gimelshein 2018), and with it the
    second, every summand of which has lost d as well.
    """
    top, total, mean, chosen = (hidden.new_zeros(len(hidden), dtype=_wide(hidden)) for _ in range(4))
    for block in _chunks(len(logits.head), BLOCK):
        z, p, _ = logits.fill(hidden, block)
        place, inside = _within(targets, block)
        chosen += z.gather(1, place)[:, 0] * inside
        largest = z.amax(-1)
        if block.start:
            largest = torch.maximum(largest, top)
            shift = top - largest
            mean = mean.addcmul_(total, shift).mul_(shift.exp())
            total *= shift.exp()
        top = largest
        torch.exp(z.sub_(top[:, None]), out=p)
        total += p.sum(-1)
        mean += p.mul_(z).sum(-1)
    return top, total, mean, chosen


def _within(targets: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Columns [T, 1] of targets in a block, 0 for those elsewhere, and which [T] are in it."""
    inside = (targets >= block.start) & (targets < block.stop)
    return (targets - block.start).mul_(inside)[:, None], inside


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b; a narrower product is rounded before it is added."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


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
        chunk: rows of logits that exist at a time, `BLOCK` columns of them.

    Returns:
        Both [T], float32 or wider, in nats.
    """
    logprobs, entropy = _ChunkedLogprobs.apply(hidden, weight, targets, temperature, chunk)  # type: ignore[no-untyped-call]
    return logprobs, entropy
