"""From per-token objectives to one number: weights w_t such that J = sum_t w_t J_t."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from learner.objective import Aggregation


def sequence_weights(
    kind: Aggregation, lengths: npt.NDArray[np.int64], group_sizes: npt.NDArray[np.int64], constant: int
) -> npt.NDArray[np.float64]:
    """The weight [S] of each token of completion i, for completions of `lengths` [S] in groups of `group_sizes`.

    Lengths count unmasked tokens: means are over what the policy wrote, so |o_i| does not count the output of tools.

    - "sequence": 1 / (groups x G x |o_i|)     mean over tokens, then completions, then prompts; GRPO, R1 eq. 1
    - "token":    1 / sum_i |o_i|              mean over all tokens of the batch; DAPO eq. 8, which sums over the G
                                               answers to one question; its implementation sums over the batch
    - "constant": 1 / (groups x G x constant)  Dr. GRPO section 3.2: no division by |o_i|, a constant instead

    The whole batch counts, including completions that a step may skip because they have no gradient, so the weights
    are the same whatever the micro-batches are, and the losses of micro-batches add up.
    """
    if kind == "token":
        return np.full(len(lengths), 1.0 / lengths.sum())
    groups = len(group_sizes)
    per_completion = np.repeat(1.0 / (groups * group_sizes), group_sizes)
    return per_completion / (lengths if kind == "sequence" else constant)
