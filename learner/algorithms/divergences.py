"""Estimators of KL(pi || pi_ref) from samples of pi (Schulman 2020, "Approximating KL divergence").

With log u = log pi_ref - log pi at a sampled token, all [T]:
"""

from __future__ import annotations

import torch
from torch import Tensor

from learner.objective import Divergence


def kl_estimate(kind: Divergence, logp: Tensor, reference: Tensor) -> Tensor:
    """k1 = -log u (unbiased), k2 = (log u)^2 / 2 (right gradient), k3 = u - 1 - log u (DeepSeekMath eq. 4, R1 eq. 2).

    "none" gives zeros.
    """
    log_u = reference - logp
    if kind == "k1":
        return -log_u
    if kind == "k2":
        return log_u.square() / 2
    if kind == "k3":
        return torch.exp(log_u) - 1 - log_u
    return torch.zeros_like(logp)
