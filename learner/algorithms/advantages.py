"""Advantages A_i of the G completions of one prompt: pure functions of rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from learner.objective import GroupAdvantage

Float64 = npt.NDArray[np.float64]

# Added to the standard deviation, as in the reference implementations of GRPO.
STD_OFFSET = 1e-4


def group_advantages(rewards: Float64, kind: GroupAdvantage) -> Float64:
    """Advantages [G] of rewards [G].

    - "group":           A_i = (r_i - mean(r)) / std(r)              DeepSeekMath section 4.1.2, R1 eq. 3
    - "mean":            A_i = r_i - mean(r)                         Dr. GRPO (Liu et al. 2025), section 3.2
    - "leave_one_out":   A_i = r_i - sum_{j != i} r_j / (G - 1)      RLOO (Kool et al. 2019; Ahmadian et al. 2024)
    - "mean_normalised": A_i = (r_i - mean(r)) / mean(r)             MaxRL (Tajwar et al. 2026, arXiv 2602.02710)
    - "none":            A_i = r_i

    std is the unbiased one (G - 1), and equal rewards give exactly 0. A group of one has no baseline: its advantage
    is 0 for every kind but "none". MaxRL's mean is a rate of success: where it is not above 0 there was none to learn
    from, and the advantages are 0.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    if kind == "none":
        return rewards.copy()
    # The mean of equal floats may differ from them in the last bit; no signal must stay no signal.
    if len(rewards) == 1 or np.all(rewards == rewards[0]):
        return np.zeros_like(rewards)
    centred: Float64 = rewards - rewards.mean()
    if kind == "mean":
        return np.asarray(centred)
    if kind == "leave_one_out":
        return np.asarray(centred * len(rewards) / (len(rewards) - 1))
    if kind == "mean_normalised":
        return np.asarray(centred / rewards.mean()) if rewards.mean() > 0 else np.zeros_like(rewards)
    return np.asarray(centred / (rewards.std(ddof=1) + STD_OFFSET))


def part_advantages(groups: Sequence[Mapping[str, Float64]], weights: Mapping[str, float]) -> list[Float64]:
    """Advantages [G] of the completions of every group of a batch, whose rewards have parts.

    GDPO (Liu et al. 2026, arXiv 2601.05242): A_i = S_i / std(S) over the batch, where S_i = sum_k w_k A_i,k and A_i,k
    is the "group" advantage of part k alone, so that no part drowns in the spread of another. The paper also takes the
    mean of S over the batch off; it is 0, as it is in every group.

    Args:
        groups: of each group, its parts' values [G] by name.
        weights: w_k, of all parts that are named.
    """
    sums = [
        np.sum([weights[name] * group_advantages(values, "group") for name, values in parts.items()], axis=0)
        for parts in groups
    ]
    every = np.concatenate(sums)
    if not every.any():
        return sums
    return [np.asarray(s / (every.std(ddof=1) + STD_OFFSET)) for s in sums]
