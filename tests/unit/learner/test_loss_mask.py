"""The loss mask from batch to update: what the policy did not write is context, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from learner import Completion, Group, LearnerConfig, ObjectiveConfig, OptimizerConfig, Trainer
from tests.unit.learner.algorithms import oracle
from tests.unit.learner.conftest import GroupFactory

CONFIG = LearnerConfig(
    dtype="float32",
    device="cpu",
    micro_batch_tokens=64,
    optimizer=OptimizerConfig(learning_rate=1e-3, epsilon=1e-6),
)
PPO = oracle.ppo_term(0.2, 0.2)
# objective -> what the oracle computes for it
ORACLE: dict[str, tuple[dict[str, Any], Callable[[Any], torch.Tensor]]] = {
    "grpo": (
        {"kl": "k3", "kl_coefficient": 0.0625},
        lambda b: oracle.per_sequence(b, oracle.normalised, oracle.with_kl(PPO, "k3", 0.0625)),
    ),
    "dr_grpo": ({"constant_length": 16}, lambda b: oracle.by_constant(b, oracle.centred, PPO, 16)),
    "dapo": (
        {"entropy_coefficient": 0.125},
        lambda b: oracle.per_token(b, oracle.normalised, oracle.with_entropy(oracle.ppo_term(0.2, 0.28), 0.125)),
    ),
    "gspo": (
        {"clip_low": 0.5, "clip_high": 4.0},
        lambda b: oracle.per_sequence(b, oracle.normalised, oracle.gspo_term(0.5, 4.0)),
    ),
    "opd": (
        {"correction_high": 1.5},
        lambda b: oracle.per_token(
            b, oracle.bare, oracle.weighted(oracle.taught, lambda x, t: min(oracle.rho(x, t), 1.5))
        ),
    ),
}


def _each(groups: list[Group], change: Callable[[Completion], Completion]) -> list[Group]:
    return [replace(g, completions=tuple(change(c) for c in g.completions)) for g in groups]


def _updated(config: LearnerConfig, model: Path, groups: list[Group]) -> tuple[dict[str, float], torch.Tensor]:
    """Statistics of a step without its times, and all parameters after it."""
    trainer = Trainer(config, model, seed=0)
    statistics = trainer.train_step(groups)
    for name in ("seconds", "tokens_per_second", "teraflops", "mfu"):
        del statistics[name]
    return statistics, torch.cat([tensor.flatten() for _, tensor in trainer.named_tensors()])


def _answer(model: Any, group: Group, completion: Completion) -> oracle.Answer:
    """A completion with the logprobs of a plain forward pass; every token is in the context of those after it."""
    ids = torch.from_numpy(np.concatenate((group.prompt, completion.tokens)).astype(np.int64))[None]
    every = model(ids).logits[0].log_softmax(-1)[len(group.prompt) - 1 : -1]
    logp = every.gather(1, ids[0, len(group.prompt) :, None])[:, 0]
    assert completion.loss_mask is not None and completion.teacher_logprobs is not None
    return oracle.Answer(
        logp=list(logp),
        behaviour=completion.logprobs.tolist(),
        proximal=logp.tolist(),
        reference=logp.tolist(),
        entropy=list(-(every.exp() * every).sum(-1)),
        age=[0] * len(logp),
        reward=completion.reward,
        mask=completion.loss_mask.tolist(),
        teacher=completion.teacher_logprobs.tolist(),
    )


@pytest.mark.parametrize("name", ORACLE)
def test_a_masked_update_equals_the_oracle(tiny_model: Path, make_groups: GroupFactory, name: str) -> None:
    groups = _each(make_groups(masked=0.4), lambda c: replace(c, teacher_logprobs=c.logprobs * np.float32(0.5)))
    parts, objective = ORACLE[name]
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64)
    expected = objective([[_answer(model, g, c) for c in g.completions] for g in groups])
    expected.backward()  # type: ignore[no-untyped-call]
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    config = CONFIG.model_copy(update={"objective": ObjectiveConfig(name=name, **parts)})
    statistics, _ = _updated(config, tiny_model, groups)
    assert statistics["loss"] == pytest.approx(-expected.item(), rel=1e-4, abs=1e-5)
    assert statistics["gradient_norm"] == pytest.approx(norm.item(), rel=1e-3)
    masks = [c.loss_mask for g in groups for c in g.completions if c.loss_mask is not None]
    assert statistics["tokens"] == sum(int(mask.sum()) for mask in masks) < sum(len(mask) for mask in masks)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        CONFIG.model_copy(update={"objective": ObjectiveConfig(name="decoupled_ppo"), "minibatches": 2, "epochs": 2}),
    ],
    ids=["grpo", "decoupled_ppo, several steps"],
)
def test_a_mask_of_ones_is_bit_identical_to_none(
    tiny_model: Path, make_groups: GroupFactory, config: LearnerConfig
) -> None:
    groups = make_groups(age=2)
    ones = _each(groups, lambda c: replace(c, loss_mask=np.ones(len(c.tokens), np.uint8)))
    (statistics, weights), (same, others) = (_updated(config, tiny_model, batch) for batch in (groups, ones))
    assert statistics == same
    assert torch.equal(weights, others)


@pytest.mark.parametrize("name", ["grpo", "gspo", "decoupled_ppo"])
def test_logprobs_and_versions_of_masked_tokens_change_nothing(
    tiny_model: Path, make_groups: GroupFactory, name: str
) -> None:
    objective = ObjectiveConfig(name=name, max_token_age=3)
    config = CONFIG.model_copy(update={"objective": objective, "minibatches": 2})

    def forget(c: Completion) -> Completion:
        return replace(c, logprobs=np.where(c.loss_mask, c.logprobs, 0), versions=np.where(c.loss_mask, c.versions, -9))

    groups = make_groups(masked=0.4)
    (statistics, weights), (same, others) = (
        _updated(config, tiny_model, batch) for batch in (groups, _each(groups, forget))
    )
    assert statistics == same and statistics["staleness_max"] == 0
    assert torch.equal(weights, others)


def test_a_masked_token_is_still_read(tiny_model: Path, make_groups: GroupFactory) -> None:
    groups = make_groups(masked=0.4, lengths=(5, 20))

    def other_output(c: Completion) -> Completion:
        assert c.loss_mask is not None
        return replace(c, tokens=np.where(c.loss_mask, c.tokens, (c.tokens + 1) % 64).astype(np.int32))

    (_, weights), (_, others) = (_updated(CONFIG, tiny_model, batch) for batch in (groups, _each(groups, other_output)))
    assert not torch.equal(weights, others), "what a tool answered is part of the context"
