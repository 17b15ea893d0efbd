"""The loss of a micro-batch: objective, correction, age, KL and entropy, weighted and summed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from learner.algorithms import objectives
from learner.algorithms.corrections import correction_weights
from learner.algorithms.distillation import teacher_advantages
from learner.algorithms.divergences import kl_estimate
from learner.errors import BatchError
from learner.objective import ObjectiveConfig


@dataclass(frozen=True, slots=True)
class TokenQuantities:
    """Per-token quantities of S sequences, all [T] unless said otherwise; only logp and entropy carry gradients.

    T counts the tokens that were sampled: those that a completion's loss mask excludes are not among them, so nothing
    that is computed from these quantities can depend on them.

    Attributes:
        logp, entropy: of the trained policy, nats.
        behaviour, proximal, reference: logprobs under those policies, nats.
        advantages: A_i repeated; not used where the advantage is the teacher's.
        weights: w_t of the aggregation.
        age: versions between sampling and this step.
        sequence: int64, 0..S-1.
        lengths: int64 [S].
        whole: bool [S], whether no token of a sequence is missing for its age; None: none is.
        chosen: bool [T], the tokens that `covariance` chose; None: none.
        teacher: logprobs under the teacher, nats; None: there is none.
    """

    logp: Tensor
    entropy: Tensor
    behaviour: Tensor
    proximal: Tensor
    reference: Tensor | None
    advantages: Tensor
    weights: Tensor
    age: Tensor
    sequence: Tensor
    lengths: Tensor
    whole: Tensor | None = None
    chosen: Tensor | None = None
    teacher: Tensor | None = None


def micro_batch_loss(x: TokenQuantities, config: ObjectiveConfig) -> Tensor:
    """- sum_t w_t (c_t a_t J_t - tau R_t - beta KL_t + eta H_t): scalar to minimise.

    J_t: `objectives`; c_t: `corrections`; a_t: weight by age; w_t: `aggregation`; tau, beta, eta: the coefficients;
    R_t = (logp - old)^2, of Kimi K2.5 (arXiv 2602.02276).
    """
    gain = surrogate(x, config)
    weights = token_weights(x, config)
    if weights is not None:
        gain = gain * weights
    if config.log_ratio_penalty:
        gain = gain - config.log_ratio_penalty * torch.square(x.logp - old_logprobs(x, config))
    if config.kl != "none" and x.reference is not None:
        gain = gain - config.kl_coefficient * kl_estimate(config.kl, x.logp, x.reference)
    if config.entropy_coefficient:
        gain = gain + config.entropy_coefficient * x.entropy
    return -torch.dot(x.weights, gain)


def old_logprobs(x: TokenQuantities, config: ObjectiveConfig) -> Tensor:
    """log pi_old [T]: the denominator of the ratio."""
    return x.behaviour if config.old_policy == "behaviour" else x.proximal


def advantages(x: TokenQuantities, config: ObjectiveConfig) -> Tensor:
    """A_t [T]: A_i of every token, or the teacher's. Raises BatchError where it is to be the teacher's, and is not."""
    if config.advantage != "teacher":
        return x.advantages
    if x.teacher is None:
        raise BatchError(
            "learner.objective.advantage is teacher, and a completion came without the teacher's logprobs; set "
            "teacher_logprobs of every completion"
        )
    return teacher_advantages(x.teacher, old_logprobs(x, config))


def surrogate(x: TokenQuantities, config: ObjectiveConfig) -> Tensor:
    """J_t [T] of the configured objective."""
    old, A = old_logprobs(x, config), advantages(x, config)  # noqa: N806
    low, high = config.clip_low, config.clip_high
    if config.loss == "clipped":
        return objectives.clipped(x.logp, old, A, low, high, config.dual_clip)
    if config.loss == "gspo":
        return objectives.gspo(x.logp, old, A, x.sequence, x.lengths, low, high)
    if config.loss == "cispo":
        return objectives.cispo(x.logp, old, A, low, high)
    if config.loss == "sapo":
        return objectives.sapo(x.logp, old, A, config.gate_positive, config.gate_negative)
    if config.loss == "dppo":
        return objectives.dppo(x.logp, old, A, config.divergence, config.divergence_bound)
    if config.treats_tokens_apart:
        chosen = torch.zeros_like(x.logp, dtype=torch.bool) if x.chosen is None else x.chosen
        if config.loss == "clip_cov":
            return objectives.clip_cov(x.logp, old, A, chosen, low, high)
        return objectives.kl_cov(x.logp, old, A, chosen, config.covariance_penalty)
    return objectives.reinforce(x.logp, A)


def token_weights(x: TokenQuantities, config: ObjectiveConfig) -> Tensor | None:
    """c_t a_t [T], the weight by mismatch and by age; None where neither is configured."""
    correction = correction_weights(
        config.correction,
        x.proximal,
        x.behaviour,
        x.sequence,
        x.lengths,
        config.correction_low,
        config.correction_high,
        config.correction_divergence,
    )
    age = age_weights(x.age, config)
    if correction is None or age is None:
        return age if correction is None else correction
    return correction * age


def age_weights(age: Tensor, config: ObjectiveConfig) -> Tensor | None:
    """2^(-age / half life), and 0 above the largest age; None when age does not matter."""
    if config.max_token_age is None and config.age_half_life is None:
        return None
    weights = torch.ones_like(age) if config.age_half_life is None else torch.exp2(-age / config.age_half_life)
    return weights if config.max_token_age is None else weights * (age <= config.max_token_age)
