"""On-policy distillation: a teacher scores what the student has sampled, token by token."""

from __future__ import annotations

from torch import Tensor

from learner.algorithms.divergences import kl_estimate


def teacher_advantages(teacher: Tensor, old: Tensor) -> Tensor:
    """A_t = log pi_T(o_t | q, o_<t) - log pi_old(o_t | q, o_<t) [T], minus the k1 estimate of KL(pi_old || pi_T).

    The policy gradient of A_t is that of the reverse KL, token by token and without what later tokens come to: Lu et
    al. 2025, "On-Policy Distillation", with discount 0; the student's own samples: GKD, Agarwal et al. 2024, arXiv
    2306.13649. Unlike GKD's divergences it reads the teacher at the sampled tokens alone.

    Args:
        teacher: logprobs of the sampled tokens under the teacher, nats.
        old: the same under the old policy of the objective, without a gradient.
    """
    return -kl_estimate("k1", old, teacher)
