"""What the engine without a model makes of versions."""

import asyncio
from typing import Any

import pytest

from actors.config.roles import GeneratorsConfig, SamplingConfig, SyntheticConfig
from actors.engines.protocol import Job
from actors.engines.synthetic import SyntheticEngine, spans_of


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
    synthetic = SyntheticConfig(mean_tokens=50, sigma=0.0, tokens_per_second=50, pass_rate=1.0)
    engine = SyntheticEngine(GeneratorsConfig(synthetic=synthetic), Digits(), 0)

    async def generated() -> Any:
        engine.swap(0)
        sampling, job = SamplingConfig(max_tokens=50), Job(2)
        coming = asyncio.create_task(engine.generate(Digits().encode("12+30="), 2, sampling, job))
        async with asyncio.timeout(30):
            while min(job.lengths()) < 1:
                await asyncio.sleep(0.001)
        engine.swap(1)
        return await coming

    for completion in asyncio.run(generated()):
        assert [version for version, _ in completion.spans] == [0, 1]
        assert sum(tokens for _, tokens in completion.spans) == len(completion.tokens) == 50
        assert completion.text.endswith("<answer>42</answer>") and completion.truncated
