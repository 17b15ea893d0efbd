"""Weights for tokens that another policy than the proximal one sampled: staleness, and engine/trainer mismatch.

With behaviour logprobs log mu (the engine's) and proximal ones log pi_prox (the learner's, before its step),
rho_t = exp(log pi_prox - log mu). All functions take and return [T] and never carry a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learner.algorithms.objectives import sequence_mean, token_divergence
from learner.objective import Correction


def token_tis(proximal: Tensor, behaviour: Tensor, cap: float) -> Tensor:
    """min(rho_t, C): truncated importance sampling per token.

    Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"; beside the clipped ratio
    to the proximal policy it makes decoupled PPO (`objectives.clipped`).
    """
    return torch.exp(proximal - behaviour).clamp(max=cap)


def sequence_tis(proximal: Tensor, behaviour: Tensor, sequence: Tensor, lengths: Tensor, cap: float) -> Tensor:
    """min(prod_t rho_t, C), the same for all tokens of a sequence.

    Liu, Li et al. 2025, "When Speed Kills Stability: Demystifying RL Collapse from the Training-Inference Mismatch".
    """
    return sequence_ratio(proximal, behaviour, sequence, lengths).clamp(max=cap)[sequence]


def icepop(proximal: Tensor, behaviour: Tensor, low: float, high: float) -> Tensor:
    """rho_t where low <= rho_t <= high, else 0: IcePop, masking on both sides.

    Ling team 2025, "Small Leak Can Sink a Great Ship"; used for Ring-1T (arXiv 2510.18855).
    """
    rho = torch.exp(proximal - behaviour)
    return torch.where((rho >= low) & (rho <= high), rho, 0.0)


def sequence_mask(
    proximal: Tensor, behaviour: Tensor, sequence: Tensor, lengths: Tensor, low: float, high: float
) -> Tensor:
    """1 for sequences whose geometric mean of rho_t lies in [low, high], else 0.

    The rejection by geometric mean of Liu, Li et al. 2025 (`sequence_tis`), which does not depend on length.
    """
    rho = torch.exp(sequence_mean(proximal - behaviour, sequence, lengths))
    return ((rho >= low) & (rho <= high)).to(proximal.dtype)[sequence]


def kpop(proximal: Tensor, behaviour: Tensor, divergence: float) -> Tensor:
    """rho_t where neither KL(pi_prox || mu) nor KL(mu || pi_prox) of the token against all others exceeds phi, else 0.

    KPop (Guo, Sun et al. 2026, "Taming Training-Inference Mismatch in Reinforcement Learning with Adaptive Masking
    Regions"), phi = `divergence`: IcePop's band, but wide in the ratio for unlikely tokens and narrow for likely ones.
    """
    forward = token_divergence(behaviour, proximal, "kl")
    backward = token_divergence(proximal, behaviour, "kl")
    return torch.where(torch.maximum(forward, backward) <= divergence, torch.exp(proximal - behaviour), 0.0)


def trust_region(proximal: Tensor, behaviour: Tensor, sequence: Tensor, lengths: Tensor, divergence: float) -> Tensor:
    """1 for sequences with max_t D_t <= delta, else 0: one token outside of the trust region rejects them.

    Trust Region Masking (Li, Liu et al. 2025, arXiv 2512.23075), delta = `divergence`. D_t = KL(mu || pi_prox) is known
    at the sampled token alone, so (log rho_t)^2 / 2 (k2) stands for it: it finds the tokens that the paper's
    |log rho_t| finds, in the unit of a divergence. It detects, and bounds nothing.
    """
    k2 = torch.square(proximal - behaviour) / 2
    largest = torch.zeros(len(lengths), dtype=k2.dtype, device=k2.device).scatter_reduce(0, sequence, k2, "amax")
    return (largest <= divergence).to(proximal.dtype)[sequence]


def sequence_ratio(proximal: Tensor, behaviour: Tensor, sequence: Tensor, lengths: Tensor) -> Tensor:
    """prod_t rho_t [S]. The sum is bounded before the exponential: e^20 is beyond any cap, and finite."""
    total = sequence_mean(proximal - behaviour, sequence, lengths) * lengths.to(proximal.dtype)
    return torch.exp(total.clamp(max=20.0))


def correction_weights(
    kind: Correction,
    proximal: Tensor,
    behaviour: Tensor,
    sequence: Tensor,
    lengths: Tensor,
    low: float,
    high: float,
    divergence: float,
) -> Tensor | None:
    """The weights of a configured correction, or None for "none"."""
    if kind == "none":
        return None
    if kind == "token_tis":
        return token_tis(proximal, behaviour, high)
    if kind == "sequence_tis":
        return sequence_tis(proximal, behaviour, sequence, lengths, high)
    if kind == "icepop":
        return icepop(proximal, behaviour, low, high)
    if kind == "kpop":
        return kpop(proximal, behaviour, divergence)
    if kind == "trust_region":
        return trust_region(proximal, behaviour, sequence, lengths, divergence)
    return sequence_mask(proximal, behaviour, sequence, lengths, low, high)
