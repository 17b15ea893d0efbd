"""From groups to samples with advantages and weights, and from samples to the minibatches of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learner.algorithms.advantages import Float64, group_advantages, part_advantages
from learner.algorithms.aggregation import sequence_weights
from learner.algorithms.loss import TokenQuantities
from learner.batch import Completion, Float32, Group
from learner.config import LearnerConfig
from learner.errors import BatchError
from learner.objective import ObjectiveConfig


@dataclass(slots=True)
class Sample:
    """One completion in a batch.

    Attributes:
        prompt: index of its group in the batch.
        completion: what was sampled, with the tokens masked that are too old.
        advantage: A_i; 0 where it is of each token.
        length: |o_i|, the tokens that its loss mask does not exclude, whatever their age.
        weight: w of each of its tokens (`aggregation`), set per minibatch.
        proximal: float32 [T], logprobs of its unmasked tokens under the policy before the first optimizer step on the
            batch, where they had to be recomputed.
        chosen: bool [T], which of its unmasked tokens the objective treats apart (`covariance`), set per minibatch.
    """

    prompt: int
    completion: Completion
    advantage: float
    length: int
    weight: float = 0.0
    proximal: Float32 | None = None
    chosen: npt.NDArray[np.bool_] | None = None


def samples_of(groups: Sequence[Group], o: ObjectiveConfig, oldest_version: int | None = None) -> list[list[Sample]]:
    """The samples of each group.

    Args:
        groups: the batch.
        o: the objective.
        oldest_version: tokens of older versions are context only, as those of a tool are: they are in no loss and no
            statistic of tokens. All completions count in the advantages, and the weights of the other tokens are what
            they would be if none was too old. None: tokens of every version are trained.
    """
    samples = []
    for i, (group, advantages) in enumerate(zip(groups, _advantages(groups, o), strict=True)):
        columns = zip(group.completions, advantages.tolist(), strict=True)
        samples.append([Sample(i, _young(c, oldest_version), a, c.unmasked_tokens) for c, a in columns])
    return samples


def _advantages(groups: Sequence[Group], o: ObjectiveConfig) -> list[Float64]:
    if o.advantage == "teacher":  # which is of each token, see `loss.advantages`
        return [np.zeros(len(group.completions)) for group in groups]
    if o.advantage != "by_part":
        rewards = [np.array([c.reward for c in group.completions], dtype=np.float64) for group in groups]
        return [group_advantages(r, o.advantage) for r in rewards]
    parts = [_parts(group, o.part_weights) for group in groups]
    return part_advantages(parts, o.part_weights or {name: 1.0 for part in parts for name in part})


def _parts(group: Group, weights: Mapping[str, float] | None) -> dict[str, Float64]:
    """The values of the parts of a group's rewards that have a weight, or of all parts; a reward without is its own."""
    named = sorted({name for c in group.completions for name in c.parts})
    if not named and weights is None:
        return {"reward": np.array([c.reward for c in group.completions])}
    found = [name for name in named if weights is None or name in weights]
    if not found:
        raise BatchError(
            f"group {group.id}: none of its reward's parts ({', '.join(named) or 'it has none'}) is among "
            f"{', '.join(sorted(weights or ()))}, which make advantage by_part; name one in "
            "learner.objective.part_weights"
        )
    return {name: np.array([c.parts.get(name, 0.0) for c in group.completions]) for name in found}


def _young(completion: Completion, oldest_version: int | None) -> Completion:
    if oldest_version is None or (young := completion.versions >= oldest_version).all():
        return completion
    mask = young if completion.loss_mask is None else young & (completion.loss_mask != 0)
    return replace(completion, loss_mask=mask.astype(np.uint8))


def minibatches(
    samples: Sequence[list[Sample]], config: LearnerConfig, generator: np.random.Generator
) -> Iterator[list[Sample]]:
    """The samples of every optimizer step on a batch, with their weights set; groups stay together."""
    o, count = config.objective, min(config.minibatches, len(samples))
    for _ in range(config.epochs):
        order = generator.permutation(len(samples)) if count > 1 else np.arange(len(samples))
        for part in np.array_split(order, count):
            chosen = [s for i in part for s in samples[i]]
            lengths = np.array([s.length for s in chosen])
            sizes = np.array([len(samples[i]) for i in part])
            for s, w in zip(chosen, sequence_weights(o.aggregation, lengths, sizes, o.constant_length), strict=True):
                s.weight = float(w)
            yield chosen


def has_gradient(sample: Sample, o: ObjectiveConfig) -> bool:
    """Whether a completion may change the weights; those that cannot are not run through the model."""
    silent = (o.zero_advantage_is_silent and sample.advantage == 0.0) or not sample.completion.unmasked_tokens
    return not silent and not (o.mask_truncated and sample.completion.truncated)


def token_quantities(
    samples: Sequence[Sample],
    version: int,
    logp: Tensor,
    entropy: Tensor,
    reference: Tensor | None,
    sequence: Tensor,
    lengths: Tensor,
) -> TokenQuantities:
    """What the loss of a micro-batch reads, over the unmasked tokens of its samples, one sample after the other.

    Args:
        samples: the S samples, in the order in which they were packed.
        version: of the policy that is trained.
        logp: [T] under that policy, in whose dtype and on whose device everything else is made.
        entropy: [T] of that policy, nats.
        reference: [T] under the reference policy, where there is one.
        sequence: int64 [T], which sample a token belongs to.
        lengths: int64 [S], unmasked tokens of each sample.
    """

    def tokens(parts: Sequence[npt.NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(logp)

    def repeated(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=logp.dtype, device=logp.device).repeat_interleave(lengths)

    completions = [s.completion for s in samples]
    proximal = [s.proximal for s in samples if s.proximal is not None]
    chosen = [s.chosen for s in samples if s.chosen is not None]
    taught = [c.unmasked(c.teacher_logprobs) for c in completions if c.teacher_logprobs is not None]
    return TokenQuantities(
        logp=logp,
        entropy=entropy,
        behaviour=tokens([c.unmasked(c.logprobs) for c in completions]),
        # With one optimizer step a batch the proximal policy is the current one: no second forward pass.
        proximal=tokens(proximal) if proximal else logp.detach(),
        reference=reference,
        advantages=repeated([s.advantage for s in samples]),
        weights=repeated([s.weight for s in samples]),
        age=tokens([version - c.unmasked(c.versions) for c in completions]),
        sequence=sequence,
        lengths=lengths,
        chosen=torch.from_numpy(np.concatenate(chosen)).to(logp.device) if chosen else None,
        teacher=tokens(taught) if len(taught) == len(completions) else None,
        whole=torch.tensor([s.completion.unmasked_tokens == s.length for s in samples], device=logp.device),
    )
