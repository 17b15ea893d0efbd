"""Policy objectives as small pure functions of per-token quantities, in the symbols of their papers.

Throughout, for token t of completion o_i of prompt q:

    logp    log pi_theta(o_t)     the policy that is trained; the only quantity with a gradient
    old     log pi_old(o_t)       denominator of the ratio: behaviour mu or proximal policy, by configuration
    A       A_i, repeated for each token
    r       exp(logp - old)

All arguments are [T] over the tokens of all completions, one completion after the other. Every function returns the
objective per token, to be *maximised*; `aggregation.sequence_weights` turns them into the paper's average.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learner.objective import TokenDivergence


def clipped(logp: Tensor, old: Tensor, A: Tensor, low: float, high: float, dual: float | None = None) -> Tensor:  # noqa: N803
    """min(r A, clip(r, 1 - low, 1 + high) A).

    PPO (Schulman et al. 2017) eq. 7, in GRPO: DeepSeekMath eq. 3, R1 eq. 1; with low < high: DAPO eq. 8. With
    old = proximal and `corrections.token_tis` as a weight it is decoupled PPO (Hilton et al. 2021; AReaL,
    Fu et al. 2025, eq. 5). `dual` bounds the loss of unlikely tokens: max(., dual x A) where A < 0 (Ye et al. 2020).
    """
    r = torch.exp(logp - old)
    surrogate = torch.minimum(r * A, torch.clamp(r, 1 - low, 1 + high) * A)
    if dual is not None:
        surrogate = torch.where(A < 0, torch.maximum(surrogate, dual * A), surrogate)
    return surrogate


def gspo(logp: Tensor, old: Tensor, A: Tensor, sequence: Tensor, lengths: Tensor, low: float, high: float) -> Tensor:  # noqa: N803
    """min(s_i A, clip(s_i, 1 - low, 1 + high) A) with s_i = exp(mean_t(logp - old)), repeated for each token of o_i.

    GSPO (Zheng et al. 2025) eq. 5 and 7; averaged per sequence and then over sequences it is the paper's objective.
    """
    s = torch.exp(sequence_mean(logp - old, sequence, lengths))[sequence]
    return torch.minimum(s * A, torch.clamp(s, 1 - low, 1 + high) * A)


def cispo(logp: Tensor, old: Tensor, A: Tensor, low: float, high: float) -> Tensor:  # noqa: N803
    """sg(clip(r, 1 - low, 1 + high)) A logp: clips the weight, not the gradient. MiniMax-M1 (2025) eq. 4 and 5."""
    r = torch.exp(logp.detach() - old)
    return torch.clamp(r, 1 - low, 1 + high) * A * logp


def sapo(logp: Tensor, old: Tensor, A: Tensor, positive: float, negative: float) -> Tensor:  # noqa: N803
    """4/tau sigmoid(tau (r - 1)) A, with tau by the sign of A: a gate instead of a clip, with slope 1 at r = 1.

    SAPO (Gao et al. 2025, arXiv 2511.20347).
    """
    tau = torch.full_like(A, negative).masked_fill(A > 0, positive)
    return torch.sigmoid(tau * (torch.exp(logp - old) - 1)) * 4 / tau * A


def dppo(logp: Tensor, old: Tensor, A: Tensor, kind: TokenDivergence, bound: float) -> Tensor:  # noqa: N803
    """r A, and 0 where the token has moved further than `bound` in the direction of its advantage.

    DPPO (arXiv 2602.04879): a bound on a divergence, where PPO's is one on a ratio, which is tight for tokens that are
    unlikely anyway and loose for likely ones.
    """
    away = torch.sign(logp.detach() - old) == torch.sign(A)
    outside = away & (token_divergence(logp.detach(), old, kind) > bound)
    return torch.where(outside, 0.0, torch.exp(logp - old) * A)


def clip_cov(logp: Tensor, old: Tensor, A: Tensor, chosen: Tensor, low: float, high: float) -> Tensor:  # noqa: N803
    """`clipped`, and 0 for the tokens I_clip that `covariance.clip_cov_tokens` has drawn (`chosen`, bool).

    Clip-Cov (Cui et al. 2025, arXiv 2505.22617, eq. 12), with PPO's clip beside it as in its listing 1.
    """
    return torch.where(chosen, 0.0, clipped(logp, old, A, low, high))


def kl_cov(logp: Tensor, old: Tensor, A: Tensor, chosen: Tensor, penalty: float) -> Tensor:  # noqa: N803
    """r A, less beta |log r| for the tokens I_KL of `covariance.kl_cov_tokens` (`chosen`, bool); no clip.

    KL-Cov (Cui et al. 2025, eq. 14), beta = `penalty`; |log r| is how its listing 1 estimates
    KL(pi_old || pi_theta) from the token. It has no gradient where pi_theta = pi_old.
    """
    return torch.exp(logp - old) * A - penalty * torch.where(chosen, (logp - old).abs(), 0.0)


def token_divergence(logp: Tensor, old: Tensor, kind: TokenDivergence) -> Tensor:
    """D(old || policy) [T] of the choice between a token and all others: no more is known of the distributions.

    tv: |pi - pi_old|; kl: pi_old log(pi_old / pi) + (1 - pi_old) log((1 - pi_old) / (1 - pi)).
    """
    if kind == "tv":
        return (torch.exp(logp) - torch.exp(old)).abs()
    others, old_others = -torch.expm1(logp), -torch.expm1(old)  # 1 - pi, precise where it is small
    least = torch.finfo(logp.dtype).eps  # what rounds to a probability of 1 may have been this much below it
    rest = old_others * torch.log(old_others.clamp(min=least) / others.clamp(min=least))
    return torch.exp(old) * (old - logp) + rest


def reinforce(logp: Tensor, A: Tensor) -> Tensor:  # noqa: N803
    """A logp (Williams 1992); off policy it needs a weight from `corrections`."""
    return A * logp


def sequence_mean(x: Tensor, sequence: Tensor, lengths: Tensor) -> Tensor:
    """Mean [S] of x [T] over the tokens of each of the S sequences."""
    total = torch.zeros(len(lengths), dtype=x.dtype, device=x.device).index_add(0, sequence, x)
    return total / lengths.to(x.dtype)
