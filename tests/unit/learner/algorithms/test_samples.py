"""Tokens that are too old: they are context, and everything else is as if they were not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learner import Group, LearnerConfig, ObjectiveConfig, OptimizerConfig, Trainer
from learner.algorithms.samples import has_gradient, samples_of
from tests.unit.learner.conftest import GroupFactory

CONFIG = LearnerConfig(
    dtype="float32",
    device="cpu",
    micro_batch_tokens=64,
    optimizer=OptimizerConfig(learning_rate=1e-3, epsilon=1e-6),
)


def updated(
    objective: ObjectiveConfig, model: Path, groups: list[Group], oldest_version: int | None
) -> tuple[dict[str, float], torch.Tensor]:
    trainer = Trainer(CONFIG.model_copy(update={"objective": objective}), model, seed=0)
    statistics = trainer.train_step(groups, oldest_version=oldest_version)
    return statistics, torch.cat([tensor.flatten() for _, tensor in trainer.named_tensors()])


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "cispo"])
def test_the_other_tokens_are_trained_as_if_none_was_too_old(
    tiny_model: Path, make_groups: GroupFactory, name: str
) -> None:
    """The same as the weight 0 in the sum, with the denominators of all tokens."""
    groups = make_groups(age=3)
    parts = {"kl": "none"} | ({"constant_length": 16} if name == "dr_grpo" else {})
    masked, weights = updated(ObjectiveConfig(name=name, **parts), tiny_model, groups, oldest_version=-1)
    weighted, others = updated(ObjectiveConfig(name=name, max_token_age=1, **parts), tiny_model, groups, None)
    assert masked["loss"] == pytest.approx(weighted["loss"], rel=1e-5)
    torch.testing.assert_close(weights, others, rtol=1e-5, atol=1e-6)
    assert masked["trained_tokens"] < weighted["trained_tokens"]


@pytest.mark.parametrize("name", ["grpo", "gspo"])
def test_what_is_too_old_is_in_no_loss_and_in_no_statistic(
    tiny_model: Path, make_groups: GroupFactory, name: str
) -> None:
    groups = make_groups(age=3)
    forgotten = [
        replace(
            g,
            completions=tuple(
                replace(c, logprobs=np.where(c.versions < -1, np.float32(-9), c.logprobs)) for c in g.completions
            ),
        )
        for g in groups
    ]
    objective = ObjectiveConfig(name=name, kl="k3", kl_coefficient=0.1, entropy_coefficient=0.1)
    (statistics, weights), (same, others) = (updated(objective, tiny_model, g, -1) for g in (groups, forgotten))
    assert torch.equal(weights, others)
    times = {"seconds", "tokens_per_second", "teraflops", "mfu"}
    assert {k: v for k, v in statistics.items() if k not in times} == {k: same[k] for k in same if k not in times}
    assert statistics["staleness_max"] <= 1
    young = sum(int((c.versions >= -1).sum()) for g in groups for c in g.completions)
    assert statistics["tokens"] == young
    whole = sum(len(c.tokens) for g in groups for c in g.completions if (c.versions == 0).all())
    assert statistics["logprob_difference_tokens"] <= whole, "what attends to a cache of older weights is compared"


def test_a_completion_without_a_young_token_counts_in_the_advantages_alone(make_groups: GroupFactory) -> None:
    (group,) = make_groups(count=1, lengths=(3, 6))
    rewards = [1.0, 0.0, 1.0, 0.0]
    completions = tuple(replace(c, reward=r, truncated=False) for c, r in zip(group.completions, rewards, strict=True))
    old = replace(completions[0], versions=np.full(len(completions[0].tokens), -7, np.int32))
    objective = ObjectiveConfig(name="grpo")
    (samples,) = samples_of([replace(group, completions=(old, *completions[1:]))], objective, oldest_version=-2)
    (all_young,) = samples_of([replace(group, completions=completions)], objective, oldest_version=-2)
    assert [s.advantage for s in samples] == [s.advantage for s in all_young]
    assert [s.length for s in samples] == [s.length for s in all_young] == [len(c.tokens) for c in completions]
    assert [has_gradient(s, objective) for s in samples] == [False, True, True, True]


def test_tokens_of_a_tool_stay_masked(make_groups: GroupFactory) -> None:
    (group,) = make_groups(count=1, age=3, masked=0.4, lengths=(10, 20))
    (samples,) = samples_of([group], ObjectiveConfig(name="grpo"), oldest_version=-1)
    for sample, completion in zip(samples, group.completions, strict=True):
        assert completion.loss_mask is not None and sample.completion.loss_mask is not None
        expected = completion.loss_mask.astype(bool) & (completion.versions >= -1)
        assert (sample.completion.loss_mask == expected).all()
        assert sample.length == completion.unmasked_tokens
