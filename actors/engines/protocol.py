"""What a generator asks of the thing that samples completions."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from actors.config.roles import SamplingConfig
from actors.errors import LeewayError
from actors.replay.progress import NOTHING, End, Partial, Spans
from actors.weights.subscriber import Receiver
from learner.batch import RoutedExperts

Found = TypeVar("Found")


class RequestRejectedError(LeewayError):
    """One prompt cannot be answered, and the next one can. Whatever else an engine raises says that it is broken.

    Attributes:
        reason: why the group is dropped.
    """

    def __init__(self, reason: Literal["overlong", "malformed"], message: str) -> None:
        super().__init__(message)
        self.reason: Literal["overlong", "malformed"] = reason


def require_fit(prompt: Sequence[int], context: int | None, vocabulary: int) -> None:
    """Raises RequestRejectedError for a prompt that a model cannot read, or can add no token to.

    Args:
        prompt: token ids.
        context: longest prompt and completion of the model (tokens); None where there is no such bound.
        vocabulary: number of its token ids.
    """
    if not prompt:
        raise RequestRejectedError("malformed", "the prompt has no token")
    if context is not None and len(prompt) >= context:
        raise RequestRejectedError("overlong", f"a prompt of {len(prompt)} tokens; the engine holds {context}")
    if min(prompt) < 0 or max(prompt) >= vocabulary:
        raise RequestRejectedError(
            "malformed", f"the prompt has token {max(prompt)}, and the model {vocabulary} token ids: another tokenizer?"
        )


@dataclass(frozen=True, slots=True)
class SampledCompletion:
    """One completion of T tokens.

    Attributes:
        tokens: int32 [T], the end-of-sequence token included where it was sampled.
        logprobs: float32 [T], of the sampled tokens under the distribution that was sampled from (nats).
        spans: (policy version, number of tokens) in order; the numbers add up to T.
        truncated: whether the token limit ended it.
        text: the tokens decoded, without special tokens.
        routed_experts: uint8 or uint16 [P + T - 1, L K], the K experts in each of L layers that every token which the
            engine read went to, those of the prompt first; None where the engine does not say.
    """

    tokens: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float32]
    spans: Spans
    truncated: bool
    text: str
    routed_experts: RoutedExperts | None = None

    @classmethod
    def of(cls, part: Partial, tokenizer: Any) -> "SampledCompletion":
        """A completion that has ended, with its text."""
        text = tokenizer.decode(part.tokens, skip_special_tokens=True)
        return cls(part.tokens, part.logprobs, part.spans, part.end is End.TRUNCATED, text, part.routed_experts)


class Job:
    """One group while an engine works on it: what it begins with, and how far it is.

    Args:
        samples: number of completions.
        seed: what the group is sampled with; its completion i with `seed` + i. None where nothing depends on it.
        begun: what was sampled of each completion before; empty where all begin anew.
    """

    def __init__(self, samples: int, seed: int | None = None, begun: Sequence[Partial] = ()) -> None:
        self.seed, self.begun = seed, tuple(begun) or (NOTHING,) * samples
        self._fresh: Callable[[], Mapping[int, Partial]] = dict
        self._fresh_lengths: Callable[[], Mapping[int, int]] = dict

    def follow(self, fresh: Callable[[], Mapping[int, Partial]], lengths: Callable[[], Mapping[int, int]]) -> None:
        """Let `so_far` ask the engine.

        Args:
            fresh: what the engine has sampled after what there was, by completion; those that it has not are missing.
            lengths: how many tokens that is, at less cost.
        """
        self._fresh, self._fresh_lengths = fresh, lengths

    def so_far(self) -> list[Partial]:
        """What there is of each completion."""
        fresh = self._fresh()
        return [part.plus(fresh[i]) if i in fresh else part for i, part in enumerate(self.begun)]

    def lengths(self) -> list[int]:
        """Tokens of each completion."""
        fresh = self._fresh_lengths()
        return [len(part) + fresh.get(i, 0) for i, part in enumerate(self.begun)]

    def seed_of(self, index: int) -> int | None:
        """The seed of what is left of a completion. One that was begun elsewhere needs numbers that were not used."""
        if self.seed is None:
            return None
        return seed_from(self.seed + index, len(self.begun[index])) if len(self.begun[index]) else self.seed + index

    def end_what_is_full(self, prompt: int, sampling: SamplingConfig, context: int | None) -> None:
        """Truncate completions that can have no further token: another engine may have had a longer context.

        Args:
            prompt: its length (tokens).
            sampling: how completions are sampled.
            context: longest prompt and completion of the engine (tokens).
        """
        most = sampling.max_tokens if context is None else min(sampling.max_tokens, context - prompt)
        self.begun = tuple(
            replace(part, end=End.TRUNCATED) if part.end is End.RUNNING and len(part) >= most else part
            for part in self.begun
        )


def seed_from(*numbers: int) -> int:
    """A seed that depends on all of the numbers, none of which is negative."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 2)


def found_in(parts: Iterable[Mapping[int, Found]]) -> dict[int, Found]:
    """One mapping from several that have no key in common."""
    return {key: value for part in parts for key, value in part.items()}


async def all_or_none(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all at once. Where one raises or this is cancelled, the others are cancelled. Raises what broke the first."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


class Engine(Receiver, Protocol):
    """Samples completions and takes weights while it does. `version` is None until the first weights are here."""

    version: int | None

    async def start(self) -> None: ...

    async def generate(
        self, prompt: list[int], samples: int, sampling: SamplingConfig, job: Job | None = None
    ) -> list[SampledCompletion]:
        """`samples` completions of one prompt, those of `job` continued; the engine keeps `job` up to date.

        Raises:
            RequestRejectedError: where this prompt cannot be answered.
        """
        ...

    async def ping(self) -> None:
        """Return once whatever does the work has answered: never, where it hangs. Raises what has broken it."""
        ...

    async def close(self) -> None: ...
