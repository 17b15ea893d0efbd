"""Which tokens Clip-Cov and KL-Cov choose: how many, of which, and the same ones again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from learner import LearnerConfig, ObjectiveConfig, Trainer
from learner.algorithms.covariance import clip_cov_tokens, covariances, kl_cov_tokens
from learner.plan import minibatch_order
from tests.unit.learner.conftest import GroupFactory

RANDOM = np.random.default_rng(0)
COVARIANCE = covariances(-RANDOM.gamma(2.0, 1.0, 5000), RANDOM.normal(size=5000))


def test_the_mean_is_the_covariance() -> None:
    logp, advantages = np.array([-1.0, -2.0, -4.0]), np.array([1.0, 1.0, -2.0])
    assert covariances(logp, advantages).mean() == pytest.approx(np.cov(logp, advantages, bias=True)[0, 1])


def test_clip_cov_draws_a_share_of_all_from_between_the_bounds() -> None:
    chosen = clip_cov_tokens(COVARIANCE, 0.01, 1.0, 5.0, minibatch_order(seed=0, version=3))
    assert chosen.sum() == 50
    assert ((COVARIANCE[chosen] >= 1.0) & (COVARIANCE[chosen] <= 5.0)).all()
    assert clip_cov_tokens(COVARIANCE, 1.0, 1.0, 5.0, RANDOM).sum() == ((COVARIANCE >= 1) & (COVARIANCE <= 5)).sum()
    assert not clip_cov_tokens(COVARIANCE, 0.01, 1e6, 1e7, RANDOM).any()


def test_seed_and_version_decide_what_clip_cov_draws() -> None:
    first, again, later = (
        clip_cov_tokens(COVARIANCE, 0.01, 1.0, 5.0, minibatch_order(seed=0, version=v)) for v in (3, 3, 4)
    )
    assert (first == again).all() and (first != later).any()


def test_kl_cov_takes_the_largest_and_at_least_one() -> None:
    chosen = kl_cov_tokens(COVARIANCE, 0.01)
    assert chosen.sum() == 50
    assert COVARIANCE[chosen].min() >= COVARIANCE[~chosen].max()
    assert kl_cov_tokens(COVARIANCE[:10], 2e-4).sum() == 1


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_minibatches_and_epochs_choose_anew(tiny_model: Path, make_groups: GroupFactory, name: str) -> None:
    """And a trainer that starts from the same state trains the same."""
    objective = ObjectiveConfig(name=name, covariance_share=0.1, covariance_low=0.0)
    config = LearnerConfig(
        dtype="float32", device="cpu", micro_batch_tokens=64, objective=objective, minibatches=2, epochs=2
    )
    updated = []
    for _ in range(2):
        trainer = Trainer(config, tiny_model, seed=0)
        statistics = trainer.train_step(make_groups(count=4))
        assert statistics["optimizer_steps"] == 4
        updated.append(torch.cat([tensor.flatten() for _, tensor in trainer.named_tensors()]))
    assert torch.equal(*updated)
