"""Lengths and pass rates of the engine without a model."""

import random
import statistics
from typing import Any

import pytest

from actors.config.roles import SyntheticConfig
from actors.engines.distributions import draw_length, task_pass_rate


@pytest.mark.parametrize("lengths", ["lognormal", "pareto"])
def test_lengths_have_the_configured_mean_and_a_long_tail(lengths: Any) -> None:
    config, source = SyntheticConfig(lengths=lengths, mean_tokens=1000, sigma=1.0, tail_index=2.5), random.Random(0)
    drawn = [draw_length(config, source) for _ in range(50_000)]
    assert statistics.mean(drawn) == pytest.approx(1000, rel=0.05)
    assert statistics.median(drawn) < 850 < 5000 < max(drawn)


def test_a_task_keeps_its_pass_rate_and_tasks_differ_as_configured() -> None:
    same, apart, hard = (SyntheticConfig(pass_rate=0.4, pass_rate_spread=spread) for spread in (0.0, 0.3, 1.0))
    prompts = [f"{i}+1=" for i in range(4000)]
    assert {task_pass_rate(same, prompt) for prompt in prompts} == {0.4}
    rates = [task_pass_rate(apart, prompt) for prompt in prompts]
    assert rates == [task_pass_rate(apart, prompt) for prompt in prompts]
    assert statistics.mean(rates) == pytest.approx(0.4, abs=0.02)
    assert statistics.variance(rates) == pytest.approx(0.3 * 0.4 * 0.6, rel=0.1)
    assert {task_pass_rate(hard, prompt) for prompt in prompts} == {0.0, 1.0}
