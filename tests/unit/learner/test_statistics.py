"""What the statistics of trained tokens say, beside numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from learner import ObjectiveConfig
from learner.algorithms.loss import TokenQuantities
from learner.statistics import token_record, token_statistics


def _statistics(log_ratios: list[list[float]], advantages: list[float], **config: Any) -> dict[str, float]:
    """Statistics of completions with the ratios e^log_ratios, those of completion i being i versions old."""
    lengths = torch.tensor([len(row) for row in log_ratios])
    sequence = torch.arange(len(log_ratios)).repeat_interleave(lengths)
    zero = torch.zeros(int(lengths.sum()), dtype=torch.float64)
    logp = torch.tensor([x for row in log_ratios for x in row], dtype=torch.float64)
    objective = ObjectiveConfig(**config)
    x = TokenQuantities(
        logp=logp,
        entropy=zero,
        behaviour=zero,
        proximal=logp if objective.old_policy == "proximal" else zero,
        reference=None,
        advantages=torch.tensor(advantages, dtype=torch.float64)[sequence],
        weights=zero,
        age=sequence.double(),
        sequence=sequence,
        lengths=lengths,
    )
    return token_statistics([token_record(x, objective, comparable=True)], objective, torch.device("cpu"))


def test_a_clip_counts_where_it_stops_the_gradient() -> None:
    found = _statistics([[0.5, -0.5], [0.5, -0.5]], [1.0, -1.0], name="grpo")
    assert found["clip_fraction_high"] == 0.25, "ratio above the bound and a positive advantage"
    assert found["clip_fraction_low"] == 0.25, "ratio below the bound and a negative advantage"
    assert found["ratio_min"] == pytest.approx(math.exp(-0.5)) and found["ratio_max"] == pytest.approx(math.exp(0.5))


def test_cispo_bounds_weights_whatever_the_advantage() -> None:
    found = _statistics([[2.0, 0.0], [2.0, 0.0]], [1.0, -1.0], name="cispo")
    assert found["clip_fraction_high"] == 0.5 and found["clip_fraction_low"] == 0.0


def test_gspo_clips_sequences() -> None:
    found = _statistics([[0.3, -0.1], [0.1, -0.1]], [1.0, 1.0], name="gspo", clip_high=0.05)
    assert found["ratio_max"] == pytest.approx(math.exp(0.1)), "the geometric mean of the sequence"
    assert found["ratio_min"] == pytest.approx(1.0)
    assert found["clip_fraction_high"] == 0.5


def test_dppo_leaves_out_what_has_moved_too_far() -> None:
    """Log-ratios from a probability of 1 here, so a token falls from 1 to e^-1, or stays."""
    found = _statistics([[-1.0, -0.1], [-1.0, -0.1]], [1.0, -1.0], name="dppo")
    assert found["clip_fraction_low"] == 0.25 and found["clip_fraction_high"] == 0.0


def test_reinforce_has_no_clip_and_shows_its_weights() -> None:
    found = _statistics([[math.log(4.0), 0.0]], [1.0], name="reinforce", correction_high=2.0)
    assert found["clip_fraction_high"] == found["clip_fraction_low"] == 0.0
    assert found["weight_mean"] == pytest.approx((2.0 + 1.0) / 2)
    assert found["effective_sample_size"] == pytest.approx(25 / (2 * 17))


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 102, 1000])
def test_the_percentile_of_differences_is_exact_and_of_the_current_version_alone(count: int) -> None:
    random = np.random.default_rng(count)
    current, old = random.normal(size=count), 1e3 + random.normal(size=count)
    found = _statistics([list(current), list(old)], [1.0, 1.0], name="grpo")
    assert found["logprob_difference_p99"] == pytest.approx(np.percentile(np.abs(current), 99), rel=1e-12)
    assert found["logprob_difference_max"] == pytest.approx(np.abs(current).max())
    assert found["logprob_difference_mean"] == pytest.approx(np.abs(current).mean())
    assert found["logprob_difference_tokens"] == count and found["trained_tokens"] == 2 * count


def test_without_a_trained_token_ratios_are_one_and_all_else_is_zero() -> None:
    found = token_statistics([], ObjectiveConfig(), torch.device("cpu"))
    ones = {"ratio_min", "ratio_mean", "ratio_max", "effective_sample_size", "weight_mean"}
    assert {name for name, value in found.items() if value == 1.0} == ones
    assert {value for name, value in found.items() if name not in ones} == {0.0}
    assert found.keys() == _statistics([[0.0]], [1.0], name="grpo").keys()


def test_masked_tokens_are_counted() -> None:
    aged = _statistics([[0.0] * 3, [0.0]], [1.0, 1.0], name="grpo", max_token_age=0)
    assert aged["masked_fraction"] == 0.25 and aged["weight_mean"] == 0.75
    assert aged["staleness_mean"] == 0.25 and aged["staleness_max"] == 1.0
    popped = _statistics([[2.0, 0.0]], [1.0], name="decoupled_ppo", correction="icepop", correction_high=2.0)
    assert popped["masked_fraction"] == 0.5
