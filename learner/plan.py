"""Which completions of a batch go through the model, in which micro-batch, and on which rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from learner.algorithms.samples import Sample, has_gradient, minibatches, samples_of
from learner.batch import Group
from learner.config import LearnerConfig
from learner.distributed import ranks
from learner.model.flops import StepCost
from learner.model.packing import Segment, assign_micro_batches, plan_micro_batches
from learner.objective import ObjectiveConfig


def segments_of(samples: Sequence[Sample], groups: Sequence[Group], objective: ObjectiveConfig) -> list[Segment]:
    """What has to go through the model, by prompt; completions that cannot have a gradient are not among it."""
    by_prompt: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        if has_gradient(sample, objective):
            by_prompt.setdefault(sample.prompt, []).append(index)
    return [
        Segment(
            groups[prompt].prompt,
            tuple(samples[i].completion.tokens for i in indices),
            tuple(indices),
            tuple(samples[i].completion.loss_mask for i in indices),
            (groups[prompt].routed_experts, *(samples[i].completion.routed_experts for i in indices)),
        )
        for prompt, indices in by_prompt.items()
    ]


def micro_batches_of(
    samples: Sequence[Sample], groups: Sequence[Group], config: LearnerConfig, cost: StepCost
) -> list[list[Segment]]:
    """This rank's micro-batches of a minibatch."""
    plan = plan_micro_batches(segments_of(samples, groups, config.objective), config.micro_batch_tokens)
    return assign_micro_batches(plan, ranks.rank(), ranks.world_size(), cost)


def minibatch_order(seed: int, version: int) -> np.random.Generator:
    """What decides about the minibatches of the batch that is trained at `version`."""
    return np.random.default_rng((seed, version))


def share_of(
    groups: Sequence[Group],
    config: LearnerConfig,
    cost: StepCost,
    seed: int,
    version: int,
    oldest_version: int | None = None,
) -> list[list[int]]:
    """What this rank reads the tokens of in the step on a batch: of every group, the indices of completions.

    Of the batch only rewards, lengths, masks and versions are looked at.

    Args:
        groups: the batch.
        config, cost, seed: of the trainer.
        version: at which the batch will be trained.
        oldest_version: as `samples_of` has it.
    """
    samples = samples_of(groups, config.objective, oldest_version)
    place = {id(sample): (g, i) for g, group in enumerate(samples) for i, sample in enumerate(group)}
    read: set[tuple[int, int]] = set()
    for minibatch in minibatches(samples, config, minibatch_order(seed, version)):
        if config.needs_proximal_pass:
            segments = segments_of(minibatch, groups, config.objective)
        else:
            segments = [segment for part in micro_batches_of(minibatch, groups, config, cost) for segment in part]
        read |= {place[id(minibatch[i])] for segment in segments for i in segment.indices}
    return [sorted(i for of, i in read if of == g) for g in range(len(groups))]
