"""From groups to samples with advantages and weights, and from samples to the minibatches of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from learner.algorithms.advantages import Float64, group_advantages, soft_overlong_punishment
from learner.algorithms.aggregation import sequence_weights
from learner.batch import Completion, Float32, Group
from learner.config import LearnerConfig, ObjectiveConfig


@dataclass(slots=True)
class Sample:
    """One completion in a batch.

    reward: with the overlong punishment, if there is one. advantage: A_i. weight: w of each of its tokens
    (`aggregation`), set per minibatch. proximal: float32 [T], its logprobs under the policy before the first optimizer
    step on the batch, where they had to be recomputed.
    """

    prompt: int
    completion: Completion
    reward: float
    advantage: float
    weight: float = 0.0
    proximal: Float32 | None = None


def rewards_of(group: Group, o: ObjectiveConfig) -> Float64:
    """r_i of a group, with DAPO's length punishment where it is configured."""
    rewards = np.array([c.reward for c in group.completions], dtype=np.float64)
    if o.overlong_limit is not None:
        limit, cache = o.overlong_limit, o.overlong_cache
        rewards += [soft_overlong_punishment(len(c.tokens), limit, cache) for c in group.completions]
    return rewards


def samples_of(groups: Sequence[Group], o: ObjectiveConfig) -> list[list[Sample]]:
    """The samples of each group."""
    samples = []
    for i, group in enumerate(groups):
        rewards = rewards_of(group, o)
        columns = zip(group.completions, rewards.tolist(), group_advantages(rewards, o.advantage).tolist(), strict=True)
        samples.append([Sample(i, completion, r, a) for completion, r, a in columns])
    return samples


def minibatches(
    samples: Sequence[list[Sample]], config: LearnerConfig, generator: np.random.Generator
) -> Iterator[list[Sample]]:
    """The samples of every optimizer step on a batch, with their weights set; groups stay together."""
    o, count = config.objective, min(config.minibatches, len(samples))
    for _ in range(config.epochs):
        order = generator.permutation(len(samples)) if count > 1 else np.arange(len(samples))
        for part in np.array_split(order, count):
            chosen = [s for i in part for s in samples[i]]
            lengths = np.array([len(s.completion.tokens) for s in chosen])
            sizes = np.array([len(samples[i]) for i in part])
            for s, w in zip(chosen, sequence_weights(o.aggregation, lengths, sizes, o.constant_length), strict=True):
                s.weight = float(w)
            yield chosen


def has_gradient(sample: Sample, o: ObjectiveConfig) -> bool:
    """Whether a completion may change the weights; those that cannot are not run through the model."""
    silent = o.zero_advantage_is_silent and sample.advantage == 0.0
    return not silent and not (o.mask_truncated and sample.completion.truncated)
