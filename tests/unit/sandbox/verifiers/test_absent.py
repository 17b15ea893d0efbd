"""Tasks that no rule decides."""

from __future__ import annotations

import pytest

from sandbox import Pool, RewardConfig, RewardWeights, SandboxConfig, Status, Submission


@pytest.mark.parametrize(
    ("response", "reward"), [("<think>a b</think><answer>c</answer>", 0.5), ("whatever I like", 0.0)]
)
def test_the_reward_has_all_parts_but_accuracy(response: str, reward: float) -> None:
    rewards = RewardConfig(format="r1_zero", repetition_ngram=2, weights=RewardWeights(accuracy=1.0, format=0.5))
    with Pool(SandboxConfig(workers=1), rewards) as pool:
        (verdict,) = pool.score([Submission("none", response, {})], deadline_seconds=30)
    assert (verdict.status, verdict.reward) == (Status.UNVERIFIED, reward)
    assert verdict.parts.keys() == {"format", "repetition"}, "absent is not 0"
