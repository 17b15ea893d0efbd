"""What a generator asks of the thing that samples completions."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from actors.config.roles import SamplingConfig
from actors.weights.subscriber import Receiver


@dataclass(frozen=True, slots=True)
class SampledCompletion:
    """One completion of T tokens.

    Attributes:
        tokens: int32 [T], the end-of-sequence token included where it was sampled.
        logprobs: float32 [T], of the sampled tokens under the distribution that was sampled from (nats).
        spans: (policy version, number of tokens) in order; the numbers add up to T.
        truncated: whether the token limit ended it.
        text: the tokens decoded, without special tokens.
    """

    tokens: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float32]
    spans: tuple[tuple[int, int], ...]
    truncated: bool
    text: str


class Engine(Receiver, Protocol):
    """Samples completions and takes weights while it does. `version` is None until the first weights are here."""

    version: int | None

    async def start(self) -> None: ...

    async def generate(self, prompt: list[int], samples: int, sampling: SamplingConfig) -> list[SampledCompletion]:
        """`samples` completions of one prompt."""
        ...

    async def close(self) -> None: ...
