"""An engine without a model: it load-tests the control and data plane, with many generators on one machine."""

import asyncio
import random
import re
from typing import Any

import numpy as np

from actors.config.roles import GeneratorsConfig, SamplingConfig
from actors.engines.protocol import SampledCompletion
from actors.weights.receiver import GlooReceiver


class SyntheticEngine(GlooReceiver):
    """Samples log-normal lengths and waits as long as a model would; answers sums rightly at the configured rate."""

    def __init__(self, config: GeneratorsConfig, tokenizer: Any, seed: int) -> None:
        super().__init__()
        self._config, self._tokenizer = config.synthetic, tokenizer
        self._random = random.Random(seed)
        self.version: int | None = None

    async def start(self) -> None:
        """There is nothing to bring up."""

    async def generate(self, prompt: list[int], samples: int, sampling: SamplingConfig) -> list[SampledCompletion]:
        numbers = re.findall(r"\d+", self._tokenizer.decode(prompt))
        answer = sum(map(int, numbers))
        return list(await asyncio.gather(*(self._one(answer, sampling) for _ in range(samples))))

    async def _one(self, answer: int, sampling: SamplingConfig) -> SampledCompletion:
        c = self._config
        mu = np.log(c.mean_tokens) - c.sigma**2 / 2
        length = min(sampling.max_tokens, max(1, round(self._random.lognormvariate(mu, c.sigma))))
        first = self.version or 0
        await asyncio.sleep(length / c.tokens_per_second)
        right = self._random.random() < c.pass_rate
        text = f"<think></think><answer>{answer if right else answer + 1}</answer>"
        tokens = np.full(length, prompt_safe_token(self._tokenizer), np.int32)
        logprobs = np.full(length, -1.0, np.float32)
        return SampledCompletion(tokens, logprobs, ((first, length),), length == sampling.max_tokens, text)

    async def ping(self) -> None:
        """Whatever does the work is this very event loop."""

    async def finish_update(self, version: int) -> float:
        """The weights travelled here, and are thrown away."""
        self.take()
        self.version = version
        return 0.0

    async def close(self) -> None:
        """There is nothing to take down."""


def prompt_safe_token(tokenizer: Any) -> int:
    """Any ordinary token."""
    return int(tokenizer.encode("0", add_special_tokens=False)[0])
