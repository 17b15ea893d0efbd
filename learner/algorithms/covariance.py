"""Which tokens of a step Clip-Cov and KL-Cov treat apart: those whose update takes the most entropy away.

Cui et al. 2025, "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models" (arXiv 2505.22617),
section 4.2. The tokens are chosen once an optimizer step, over all that it trains, so that neither micro-batches nor
ranks have a say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from learner.algorithms.samples import Sample, has_gradient
from learner.objective import ObjectiveConfig

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def covariances(logp: Float64, A: Float64) -> Float64:  # noqa: N803
    """Cov_t = (logp_t - mean(logp)) (A_t - mean(A)), [N] over the N tokens of a step (eq. 10)."""
    return np.asarray((logp - logp.mean()) * (A - A.mean()))


def clip_cov_tokens(covariance: Float64, share: float, low: float, high: float, random: np.random.Generator) -> Bool:
    """I_clip (eq. 11): r N of the tokens with low <= Cov_t <= high, drawn uniformly; all where they are fewer."""
    candidates = np.flatnonzero((covariance >= low) & (covariance <= high))
    count = min(len(candidates), _count(share, len(covariance)))
    chosen = np.zeros(len(covariance), np.bool_)
    chosen[random.choice(candidates, count, replace=False)] = True
    return chosen


def kl_cov_tokens(covariance: Float64, share: float) -> Bool:
    """I_KL: the k N tokens with the largest Cov_t, eq. 13; of equal ones the first."""
    chosen = np.zeros(len(covariance), np.bool_)
    chosen[np.argsort(-covariance, kind="stable")[: _count(share, len(covariance))]] = True
    return chosen


def _count(share: float, tokens: int) -> int:
    # At least one, as in the authors' implementation: the published shares are of some hundred thousand tokens.
    return max(1, math.floor(share * tokens))


def choose_tokens(samples: Sequence[Sample], o: ObjectiveConfig, random: np.random.Generator) -> None:
    """Set `chosen` of the samples that an optimizer step trains, where the objective treats some tokens apart.

    Cov_t is taken under the policy before the first optimizer step on the batch: log pi_theta of the first step itself,
    and near it for those that may follow.

    Args:
        samples: the minibatch, scored (`proximal`); completions without a gradient count nowhere.
        o: the objective.
        random: what draws: with the same state the same tokens.
    """
    if not o.treats_tokens_apart:
        return
    for sample in samples:
        sample.chosen = np.zeros(sample.completion.unmasked_tokens, np.bool_)
    trained = [s for s in samples if has_gradient(s, o)]
    if not trained:
        return
    scored = [np.asarray(s.proximal, np.float64) for s in trained]
    lengths = [len(logp) for logp in scored]
    covariance = covariances(np.concatenate(scored), np.repeat([s.advantage for s in trained], lengths))
    if o.loss == "clip_cov":
        chosen = clip_cov_tokens(covariance, o.covariance_share, o.covariance_low, o.covariance_high, random)
    else:
        chosen = kl_cov_tokens(covariance, o.covariance_share)
    for sample, part in zip(trained, np.split(chosen, np.cumsum(lengths)[:-1]), strict=True):
        sample.chosen = part
