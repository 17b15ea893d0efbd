"""An engine without a model: it load-tests the control and data plane, with many generators on one machine."""

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.config.roles import GeneratorsConfig, SamplingConfig
from actors.engines.distributions import draw_length, task_pass_rate
from actors.engines.protocol import Job, SampledCompletion
from actors.replay.progress import End, Partial, Spans
from actors.weights.receiver import StagedReceiver

#: Updates that are remembered: no completion is spread over more versions than these, and one.
VERSIONS_KEPT = 64


class SyntheticEngine(StagedReceiver):
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

    async def generate(
        self, prompt: list[int], samples: int, sampling: SamplingConfig, job: Job | None = None
    ) -> list[SampledCompletion]:
        job = job or Job(samples)
        job.end_what_is_full(len(prompt), sampling, None)
        text = self._tokenizer.decode(prompt)
        completions = {i: self._begin(job, i, text, sampling) for i in range(samples)}
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

    def _begin(self, job: Job, index: int, prompt: str, sampling: SamplingConfig) -> "_Completion":
        """Draw what becomes of a completion; the same of one that has a seed, wherever it was begun."""
        c, begun = self._config, job.begun[index]
        source = self._random if job.seed is None else random.Random(job.seed + index)
        length = min(sampling.max_tokens, draw_length(c, source))
        right = source.random() < task_pass_rate(c, prompt)
        left = 0 if begun.end is not End.RUNNING else max(length - len(begun), 1)
        end = End.TRUNCATED if len(begun) + left == sampling.max_tokens else End.STOPPED
        answer = sum(map(int, re.findall(r"\d+", prompt)))
        text = f"<think></think><answer>{answer if right else answer + 1}</answer>"
        token, seconds = prompt_safe_token(self._tokenizer), left / (c.tokens_per_second * self.speed)
        version, began = self.version or 0, time.monotonic()
        return _Completion(left, token, version, seconds, begun.end or end, text, began, self._changes)

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


@dataclass(frozen=True, slots=True)
class _Completion:
    """What is left of a completion: so many tokens, which come evenly from a moment on, under the version of then and
    those that it was changed to since.
    """

    left: int
    token: int
    version: int
    seconds: float
    end: End
    text: str
    began: float
    changes: Sequence[tuple[float, int]]

    def count(self) -> int:
        """Tokens by now."""
        passed = time.monotonic() - self.began
        return self.left if passed >= self.seconds else int(self.left * passed / self.seconds)

    def part(self, count: int) -> Partial:
        """The first tokens of what is left."""
        tokens, logprobs = np.full(count, self.token, np.int32), np.full(count, -1.0, np.float32)
        rate = self.left / self.seconds if self.seconds else 0.0
        spans = spans_of(count, rate, self.version, self.began, self.changes)
        return Partial(tokens, logprobs, spans, self.end if count == self.left else End.RUNNING)


def spans_of(count: int, rate: float, first: int, began: float, changes: Sequence[tuple[float, int]]) -> Spans:
    """(version, tokens) of tokens that came evenly from a moment on.

    Args:
        count: tokens.
        rate: tokens a second.
        first: version at the beginning.
        began: seconds of the monotonic clock.
        changes: (moment, version) of each update, in order.
    """
    spans: list[tuple[int, int]] = []
    version, done = first, 0
    for moment, following in changes:
        if moment <= began:
            continue
        until = min(count, int(rate * (moment - began)))
        if until > done:
            spans.append((version, until - done))
            done = until
        version = following
    if count > done:
        spans.append((version, count - done))
    return tuple(spans)


def prompt_safe_token(tokenizer: Any) -> int:
    """Any ordinary token."""
    return int(tokenizer.encode("0", add_special_tokens=False)[0])
