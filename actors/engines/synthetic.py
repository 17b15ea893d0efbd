"""An engine without a model: it load-tests the control and data plane, with many generators on one machine."""

import asyncio
import random
import re
import time
import zlib
from collections import deque
from typing import Any

import numpy as np

from actors.config.roles import GeneratorsConfig, SamplingConfig, SyntheticConfig
from actors.engines.protocol import SampledCompletion
from actors.weights.receiver import GlooReceiver

#: Updates that are remembered: no completion is spread over more versions than these, and one.
VERSIONS_KEPT = 64


class SyntheticEngine(GlooReceiver):
    """Draws a length, waits as long as a model would take for it, and answers sums rightly at the task's pass rate.

    Attributes:
        version: of the weights that it pretends to sample from.
        speed: of this one engine relative to the configured one; a slow machine has less.
    """

    def __init__(self, config: GeneratorsConfig, tokenizer: Any, seed: int) -> None:
        super().__init__()
        self._config, self._tokenizer = config.synthetic, tokenizer
        self._random = random.Random(seed)
        self._changes: deque[tuple[float, int]] = deque(maxlen=VERSIONS_KEPT)
        self.version: int | None = None
        self.speed = 1.0

    async def start(self) -> None:
        """There is nothing to bring up."""

    async def generate(self, prompt: list[int], samples: int, sampling: SamplingConfig) -> list[SampledCompletion]:
        text = self._tokenizer.decode(prompt)
        answer = sum(map(int, re.findall(r"\d+", text)))
        rate = task_pass_rate(self._config, text)
        return list(await asyncio.gather(*(self._one(answer, rate, sampling) for _ in range(samples))))

    async def _one(self, answer: int, rate: float, sampling: SamplingConfig) -> SampledCompletion:
        length = min(sampling.max_tokens, draw_length(self._config, self._random))
        began, first = time.monotonic(), self.version or 0
        await asyncio.sleep(length / (self._config.tokens_per_second * self.speed))
        spans = spans_of(length, first, began, time.monotonic(), list(self._changes))
        right = self._random.random() < rate
        text = f"<think></think><answer>{answer if right else answer + 1}</answer>"
        tokens = np.full(length, prompt_safe_token(self._tokenizer), np.int32)
        logprobs = np.full(length, -1.0, np.float32)
        return SampledCompletion(tokens, logprobs, spans, length == sampling.max_tokens, text)

    async def ping(self) -> None:
        """Whatever does the work is this very event loop."""

    async def finish_update(self, version: int) -> float:
        """The weights travelled here, and are thrown away."""
        self.take()
        return self.swap(version)

    def swap(self, version: int) -> float:
        """Go on under another version; returns the pause (s)."""
        self.version = version
        self._changes.append((time.monotonic(), version))
        return 0.0

    async def close(self) -> None:
        """There is nothing to take down."""


def draw_length(config: SyntheticConfig, source: random.Random) -> int:
    """A length (tokens, at least 1) from the configured distribution, whose mean is `mean_tokens` in either form."""
    mean = config.mean_tokens
    if config.lengths == "pareto":
        shortest = mean * (config.tail_index - 1) / config.tail_index
        return max(1, round(shortest * source.paretovariate(config.tail_index)))
    return max(1, round(source.lognormvariate(float(np.log(mean)) - config.sigma**2 / 2, config.sigma)))


def task_pass_rate(config: SyntheticConfig, prompt: str) -> float:
    """The pass rate of a task: from a Beta distribution with mean `pass_rate`, always the same for the same prompt."""
    mean, spread = config.pass_rate, config.pass_rate_spread
    if spread == 0 or mean in (0, 1):
        return mean
    source = random.Random(zlib.crc32(prompt.encode()))
    if spread == 1:
        return float(source.random() < mean)
    concentration = 1 / spread - 1  # the variance of such a Beta is spread * mean * (1 - mean)
    return source.betavariate(mean * concentration, (1 - mean) * concentration)


def spans_of(
    length: int, first: int, began: float, ended: float, changes: list[tuple[float, int]]
) -> tuple[tuple[int, int], ...]:
    """(version, tokens) of a completion whose tokens came evenly between two moments.

    Args:
        length: tokens.
        first: version at the beginning.
        began, ended: seconds of the monotonic clock.
        changes: (moment, version) of each update, in order.
    """
    spans: list[tuple[int, int]] = []
    version, done = first, 0
    for moment, following in changes:
        if began < moment < ended:
            until = int(length * (moment - began) / (ended - began))
            if until > done:
                spans.append((version, until - done))
                done = until
            version = following
    if length > done:
        spans.append((version, length - done))
    return tuple(spans)


def prompt_safe_token(tokenizer: Any) -> int:
    """Any ordinary token."""
    return int(tokenizer.encode("0", add_special_tokens=False)[0])
