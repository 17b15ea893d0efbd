"""Every objective equals a naive double-precision loop written from the paper: value and gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner import BatchError, Completion, Group, LearnerConfig, ObjectiveConfig
from learner.algorithms.covariance import choose_tokens
from learner.algorithms.loss import micro_batch_loss
from learner.algorithms.samples import has_gradient, minibatches, samples_of, token_quantities
from tests.unit.learner.algorithms import oracle
from tests.unit.learner.conftest import GroupFactory


@dataclass(frozen=True)
class Case:
    """A configuration, and the oracle's objective for it."""

    config: dict[str, Any]
    objective: Callable[[Any], torch.Tensor]


def _mask(answer: Any) -> float:
    return float(0.5 <= oracle.sequence_rho(answer) ** (1 / len(answer.sampled)) <= 2.0)


def _icepop(answer: Any, t: int) -> float:
    return oracle.rho(answer, t) if 0.5 <= oracle.rho(answer, t) <= 2.0 else 0.0


PPO = oracle.ppo_term(0.2, 0.2)
PROXIMAL_PPO = oracle.ppo_term(0.2, 0.2, old="proximal")

CASES: dict[str, Case] = {
    "grpo": Case({"name": "grpo"}, lambda b: oracle.per_sequence(b, oracle.normalised, PPO)),
    "grpo k3": Case(
        {"name": "grpo", "kl": "k3", "kl_coefficient": 0.1},
        lambda b: oracle.per_sequence(b, oracle.normalised, oracle.with_kl(PPO, "k3", 0.1)),
    ),
    "grpo k2": Case(
        {"name": "grpo", "kl": "k2", "kl_coefficient": 0.1},
        lambda b: oracle.per_sequence(b, oracle.normalised, oracle.with_kl(PPO, "k2", 0.1)),
    ),
    "grpo k1": Case(
        {"name": "grpo", "kl": "k1", "kl_coefficient": 0.1},
        lambda b: oracle.per_sequence(b, oracle.normalised, oracle.with_kl(PPO, "k1", 0.1)),
    ),
    "grpo entropy": Case(
        {"name": "grpo", "entropy_coefficient": 0.01},
        lambda b: oracle.per_sequence(b, oracle.normalised, oracle.with_entropy(PPO, 0.01)),
    ),
    "grpo dual clip": Case(
        {"name": "grpo", "dual_clip": 3.0},
        lambda b: oracle.per_sequence(b, oracle.normalised, oracle.ppo_term(0.2, 0.2, dual=3.0)),
    ),
    "dr_grpo": Case(
        {"name": "dr_grpo", "constant_length": 64}, lambda b: oracle.by_constant(b, oracle.centred, PPO, 64)
    ),
    "dapo": Case({"name": "dapo"}, lambda b: oracle.per_token(b, oracle.normalised, oracle.ppo_term(0.2, 0.28))),
    "gspo": Case(
        {"name": "gspo", "clip_low": 0.03, "clip_high": 0.04},
        lambda b: oracle.per_sequence(b, oracle.normalised, oracle.gspo_term(0.03, 0.04)),
    ),
    "cispo": Case({"name": "cispo"}, lambda b: oracle.per_token(b, oracle.normalised, oracle.cispo_term(1.0, 4.0))),
    "sapo": Case({"name": "sapo"}, lambda b: oracle.per_sequence(b, oracle.normalised, oracle.sapo_term(1.0, 1.05))),
    "dppo": Case(
        {"name": "dppo"},
        lambda b: oracle.per_token(b, oracle.normalised, oracle.dppo_term(oracle.total_variation, 0.2)),
    ),
    "dppo kl": Case(
        {"name": "dppo", "divergence": "kl", "divergence_bound": 0.05},
        lambda b: oracle.per_token(b, oracle.normalised, oracle.dppo_term(oracle.binary_kl, 0.05)),
    ),
    "clip_cov": Case(
        {"name": "clip_cov", "covariance_share": 1.0, "covariance_low": 0.1, "covariance_high": 1.0},
        lambda b: oracle.per_token(b, oracle.normalised, oracle.clip_cov(b, oracle.normalised, PPO, low=0.1, high=1.0)),
    ),
    "kl_cov": Case(
        {"name": "kl_cov", "covariance_share": 0.3, "covariance_penalty": 0.5},
        lambda b: oracle.per_token(b, oracle.normalised, oracle.kl_cov(b, oracle.normalised, share=0.3, beta=0.5)),
    ),
    "maxrl": Case({"name": "maxrl"}, lambda b: oracle.per_token(b, oracle.over_mean, PPO)),
    "gdpo": Case(
        {"name": "gdpo", "part_weights": {"accuracy": 1.0, "format": 0.5}},
        lambda b: oracle.per_sequence(b, oracle.by_part(b, {"accuracy": 1.0, "format": 0.5}), PPO),
    ),
    "grpo log-ratio": Case(
        {"name": "grpo", "log_ratio_penalty": 0.01},
        lambda b: oracle.per_sequence(b, oracle.normalised, oracle.with_log_ratio(PPO, 0.01)),
    ),
    "decoupled_ppo": Case(
        {"name": "decoupled_ppo"},
        lambda b: oracle.per_token(
            b, oracle.normalised, oracle.weighted(PROXIMAL_PPO, lambda x, t: min(oracle.rho(x, t), 5.0))
        ),
    ),
    "reinforce": Case(
        {"name": "reinforce"},
        lambda b: oracle.per_sequence(
            b, oracle.normalised, oracle.weighted(oracle.reinforce_term, lambda x, t: min(oracle.rho(x, t), 2.0))
        ),
    ),
    "opd": Case(
        {"name": "opd"},
        lambda b: oracle.per_token(
            b, oracle.bare, oracle.weighted(oracle.taught, lambda x, t: min(oracle.rho(x, t), 2.0))
        ),
    ),
    "opd with PPO's clip": Case(
        {"name": "grpo", "advantage": "teacher"}, lambda b: oracle.per_sequence(b, oracle.bare, oracle.taught_ppo)
    ),
    "reinforce, leave-one-out, uncorrected": Case(
        {"name": "reinforce", "advantage": "leave_one_out", "correction": "none"},
        lambda b: oracle.per_sequence(b, oracle.leave_one_out, oracle.reinforce_term),
    ),
    "reinforce without baseline": Case(
        {"name": "reinforce", "advantage": "none", "correction": "none", "aggregation": "token"},
        lambda b: oracle.per_token(b, oracle.bare, oracle.reinforce_term),
    ),
    "sequence TIS": Case(
        {"name": "decoupled_ppo", "correction": "sequence_tis", "correction_high": 2.0},
        lambda b: oracle.per_token(
            b, oracle.normalised, oracle.weighted(PROXIMAL_PPO, lambda x, _: min(oracle.sequence_rho(x), 2.0))
        ),
    ),
    "IcePop": Case(
        {"name": "decoupled_ppo", "correction": "icepop", "correction_high": 2.0},
        lambda b: oracle.per_token(b, oracle.normalised, oracle.weighted(PROXIMAL_PPO, _icepop)),
    ),
    "sequence mask": Case(
        {"name": "decoupled_ppo", "correction": "sequence_mask", "correction_high": 2.0},
        lambda b: oracle.per_token(b, oracle.normalised, oracle.weighted(PROXIMAL_PPO, lambda x, _: _mask(x))),
    ),
    "KPop": Case(
        {"name": "decoupled_ppo", "correction": "kpop"},
        lambda b: oracle.per_token(
            b, oracle.normalised, oracle.weighted(PROXIMAL_PPO, lambda x, t: oracle.kpop(x, t, 0.1))
        ),
    ),
    "trust region": Case(
        {"name": "decoupled_ppo", "correction": "trust_region", "correction_divergence": 0.01},
        lambda b: oracle.per_token(
            b, oracle.normalised, oracle.weighted(PROXIMAL_PPO, lambda x, _: oracle.trust_region(x, 0.01))
        ),
    ),
    "age": Case(
        {"name": "grpo", "max_token_age": 16, "age_half_life": 4.0},
        lambda b: oracle.per_sequence(
            b,
            oracle.normalised,
            oracle.weighted(PPO, lambda x, t: 2.0 ** (-x.age[t] / 4.0) if x.age[t] <= 16 else 0.0),
        ),
    ),
}


@st.composite
def batches(draw: st.DrawFn) -> Any:
    """Ragged groups: one-token answers, groups of one, equal rewards, tokens up to 1000 versions old, masked tokens."""
    shapes = draw(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4))
    rewards = st.sampled_from([0.0, 0.1, 1.0, 1.1])
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    drift = draw(st.sampled_from([0.0, 0.05, 0.5, 2.0]))
    masked = draw(st.sampled_from([0.0, 0.3, 0.9]))

    def mask(length: int) -> list[int]:
        kept = random.random(length) >= masked
        kept[random.integers(length)] = True
        return kept.astype(int).tolist()

    def answer(length: int) -> Any:
        logp = -random.gamma(2.0, 1.0, length)
        near = [np.minimum(logp + drift * random.normal(size=length), -1e-3) for _ in range(4)]
        return oracle.Answer(
            logp=[torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in logp],
            behaviour=near[0].tolist(),
            proximal=near[1].tolist(),
            reference=near[2].tolist(),
            entropy=[torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in random.gamma(2.0, 1.0, length)],
            age=random.choice([0, 1, 8, 16, 17, 1000], length).tolist(),
            reward=draw(rewards),
            mask=mask(length),
            teacher=near[3].tolist(),
        )

    return [[answer(n) for n in group] for group in shapes]


def _ours(batch: Any, config: ObjectiveConfig, dtype: torch.dtype) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Our loss of a batch and its gradient in logp and entropy of every token."""
    answers = [a for group in batch for a in group]
    version = 1000

    def completion(answer: Any) -> Completion:
        everything = all(answer.mask) and len(answer.mask) % 2  # no mask and a mask of ones are the same
        return Completion(
            tokens=np.zeros(len(answer.logp), np.int32),
            logprobs=np.array(answer.behaviour),
            versions=version - np.array(answer.age),
            reward=answer.reward,
            parts=answer.parts,
            loss_mask=None if everything else np.array(answer.mask, np.uint8),
            teacher_logprobs=np.array(answer.teacher),
        )

    groups = [Group(np.zeros(1, np.int32), tuple(completion(a) for a in group)) for group in batch]
    samples = samples_of(groups, config)
    ((*chosen,),) = minibatches(samples, LearnerConfig(objective=config), np.random.default_rng(0))
    unmasked = torch.tensor([m for a in answers for m in a.mask]) == 1

    def flat(values: list[Any]) -> torch.Tensor:
        # item() keeps all digits; as_tensor would round a Python float to float32
        plain = [v.item() if isinstance(v, torch.Tensor) else v for row in values for v in row]
        return torch.tensor(plain, dtype=dtype)

    logp, entropy = flat([a.logp for a in answers]), flat([a.entropy for a in answers])
    logp.requires_grad_()
    entropy.requires_grad_()
    for sample, answer in zip(chosen, answers, strict=True):
        sample.proximal = sample.completion.unmasked(np.array(answer.proximal))
    choose_tokens(chosen, config, np.random.default_rng(0))
    lengths = torch.tensor([s.completion.unmasked_tokens for s in chosen])
    loss = micro_batch_loss(
        token_quantities(
            chosen,
            version,
            logp[unmasked],
            entropy[unmasked],
            flat([a.reference for a in answers])[unmasked],
            torch.arange(len(answers)).repeat_interleave(lengths),
            lengths,
        ),
        config,
    )
    loss.backward()
    zero = torch.zeros_like(logp)
    return loss.item(), logp.grad if logp.grad is not None else zero, entropy.grad if entropy.grad is not None else zero


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(batch=batches())
def test_objective_equals_the_oracle(name: str, batch: Any) -> None:
    case = CASES[name]
    for row in (x for group in batch for a in group for x in (*a.logp, *a.entropy)):
        row.grad = None
    objective = case.objective(batch)
    if objective.requires_grad:
        objective.backward()
    answers = [a for group in batch for a in group]
    gradients = [
        np.array([0.0 if x.grad is None else -x.grad.item() for a in answers for x in getattr(a, field)])
        for field in ("logp", "entropy")
    ]
    config = ObjectiveConfig(**case.config)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        loss, in_logp, in_entropy = _ours(batch, config, dtype)
        np.testing.assert_allclose(loss, -objective.item(), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(in_logp.double().numpy(), gradients[0], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(in_entropy.double().numpy(), gradients[1], rtol=tolerance, atol=tolerance)


def test_a_teacher_that_says_nothing_is_named(make_groups: GroupFactory) -> None:
    config = ObjectiveConfig(name="opd")
    (samples,) = samples_of(make_groups(count=1, size=2), config)
    assert [s.advantage for s in samples] == [0.0, 0.0] and all(has_gradient(s, config) for s in samples)
    lengths = torch.tensor([s.length for s in samples])
    logp = torch.zeros(int(lengths.sum()))
    x = token_quantities(samples, 0, logp, logp, None, torch.arange(2).repeat_interleave(lengths), lengths)
    with pytest.raises(BatchError, match="set teacher_logprobs of every completion"):
        micro_batch_loss(x, config)
