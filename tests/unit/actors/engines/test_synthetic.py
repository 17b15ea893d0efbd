"""What the engine without a model makes of lengths, pass rates and versions."""

import asyncio
import random
import statistics
from typing import Any

import pytest

from actors.config.roles import GeneratorsConfig, SamplingConfig, SyntheticConfig
from actors.engines.synthetic import SyntheticEngine, draw_length, spans_of, task_pass_rate


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


@pytest.mark.parametrize(
    ("changes", "spans"),
    [
        ([], ((3, 10),)),
        ([(-1.0, 3), (20.0, 9)], ((3, 10),)),
        ([(4.0, 4)], ((3, 4), (4, 6))),
        ([(0.1, 4), (5.0, 5), (5.01, 6)], ((4, 5), (6, 5))),
        ([(9.99, 4)], ((3, 9), (4, 1))),
    ],
)
def test_tokens_have_the_version_that_was_there_when_they_came(changes: Any, spans: Any) -> None:
    assert spans_of(10, 1.0, 3, 0.0, changes) == spans


class Digits:
    """A tokenizer whose token ids are code points."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def test_a_completion_crosses_an_update() -> None:
    synthetic = SyntheticConfig(mean_tokens=50, sigma=0.0, tokens_per_second=250, pass_rate=1.0)
    engine = SyntheticEngine(GeneratorsConfig(synthetic=synthetic), Digits(), 0)

    async def generated() -> Any:
        engine.swap(0)
        coming = asyncio.create_task(engine.generate(Digits().encode("12+30="), 2, SamplingConfig(max_tokens=50)))
        await asyncio.sleep(0.05)
        engine.swap(1)
        return await coming

    for completion in asyncio.run(generated()):
        assert [version for version, _ in completion.spans] == [0, 1]
        assert sum(tokens for _, tokens in completion.spans) == len(completion.tokens) == 50
        assert completion.text.endswith("<answer>42</answer>") and completion.truncated
