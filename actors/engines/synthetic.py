"""An engine without a model: it load-tests the control and data plane, with many generators on one machine."""

import asyncio
import random
import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.config.roles import GeneratorsConfig, SamplingConfig
from actors.engines.protocol import Job, SampledCompletion
from actors.replay.progress import End, Partial
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

    async def generate(
        self, prompt: list[int], samples: int, sampling: SamplingConfig, job: Job | None = None
    ) -> list[SampledCompletion]:
        job = job or Job(samples)
        job.end_what_is_full(len(prompt), sampling, None)
        answer = sum(map(int, re.findall(r"\d+", self._tokenizer.decode(prompt))))
        completions = {i: self._begin(job, i, answer, sampling) for i in range(samples)}
        job.follow(
            lambda: {i: c.part(c.count()) for i, c in completions.items()},
            lambda: {i: c.count() for i, c in completions.items()},
        )
        await asyncio.gather(*(asyncio.sleep(c.seconds) for c in completions.values()))
        whole = [begun.plus(completions[i].part(completions[i].left)) for i, begun in enumerate(job.begun)]
        return [
            SampledCompletion(part.tokens, part.logprobs, part.spans, part.end is End.TRUNCATED, completions[i].text)
            for i, part in enumerate(whole)
        ]

    def _begin(self, job: Job, index: int, answer: int, sampling: SamplingConfig) -> "_Completion":
        """Draw what becomes of a completion; the same of one that has a seed, wherever it was begun."""
        c, begun = self._config, job.begun[index]
        source = self._random if job.seed is None else random.Random(job.seed + index)
        mu = float(np.log(c.mean_tokens) - c.sigma**2 / 2)
        length = min(sampling.max_tokens, max(1, round(source.lognormvariate(mu, c.sigma))))
        right = source.random() < c.pass_rate
        left = 0 if begun.end is not End.RUNNING else max(length - len(begun), 1)
        end = End.TRUNCATED if len(begun) + left == sampling.max_tokens else End.STOPPED
        text = f"<think></think><answer>{answer if right else answer + 1}</answer>"
        token, seconds = prompt_safe_token(self._tokenizer), left / c.tokens_per_second
        return _Completion(left, token, self.version or 0, seconds, begun.end or end, text, time.monotonic())

    async def ping(self) -> None:
        """Whatever does the work is this very event loop."""

    async def finish_update(self, version: int) -> float:
        """The weights travelled here, and are thrown away."""
        self.take()
        self.version = version
        return 0.0

    async def close(self) -> None:
        """There is nothing to take down."""


@dataclass(frozen=True, slots=True)
class _Completion:
    """What is left of a completion: so many tokens, which come evenly from a moment on."""

    left: int
    token: int
    version: int
    seconds: float
    end: End
    text: str
    began: float

    def count(self) -> int:
        """Tokens by now."""
        passed = time.monotonic() - self.began
        return self.left if passed >= self.seconds else int(self.left * passed / self.seconds)

    def part(self, count: int) -> Partial:
        """The first tokens of what is left."""
        tokens, logprobs = np.full(count, self.token, np.int32), np.full(count, -1.0, np.float32)
        spans = ((self.version, count),) if count else ()
        return Partial(tokens, logprobs, spans, self.end if count == self.left else End.RUNNING)


def prompt_safe_token(tokenizer: Any) -> int:
    """Any ordinary token."""
    return int(tokenizer.encode("0", add_special_tokens=False)[0])
