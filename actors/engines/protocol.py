"""What a generator asks of the thing that samples completions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from actors.config.roles import SamplingConfig
from actors.errors import LeewayError
from actors.weights.subscriber import Receiver


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
        """`samples` completions of one prompt.

        Raises:
            RequestRejectedError: where this prompt cannot be answered.
        """
        ...

    async def ping(self) -> None:
        """Return once whatever does the work has answered: never, where it hangs. Raises what has broken it."""
        ...

    async def close(self) -> None: ...
