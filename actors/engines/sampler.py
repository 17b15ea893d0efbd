"""Sampling for `transformers`: each row of a batch from random numbers of its own, with the log-probabilities kept.

`transformers` samples all rows from one stream, so that each depends on its neighbours; and it keeps the scores of the
whole vocabulary for every position where log-probabilities are asked for.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers import LogitsProcessor

from actors.config.roles import SamplingConfig

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
#: Random numbers that are made at a time for each row.
BLOCK = 128


class GenerationStoppedError(Exception):
    """The batch was given up."""


class RowSampler(LogitsProcessor):
    """Chooses the token of every row, and leaves `transformers` no choice but to take it.

    Token t of a row is the first whose cumulative probability is above the t-th number of the row's own stream; so it
    depends on the row's seed and nothing else, and a row that is continued goes on as it would have.

    Args:
        sampling: how tokens are sampled.
        seeds: of each row.
        skipped: numbers of each row's stream that were used before.

    Attributes:
        stopped: set from another thread, it ends the batch at its next token.
    """

    def __init__(self, sampling: SamplingConfig, seeds: Sequence[int], skipped: Sequence[int]) -> None:
        self._temperature, self._top_p = sampling.temperature, sampling.top_p
        streams = [np.random.PCG64(seed).advance(used) for seed, used in zip(seeds, skipped, strict=True)]
        self._rows = [np.random.Generator(stream) for stream in streams]
        self._block = np.empty((len(seeds), 0))
        self._tokens: list[torch.Tensor] = []
        self._logprobs: list[torch.Tensor] = []
        self.stopped = False

    def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [B, V] that allow one token a row.

        Raises:
            GenerationStoppedError: the batch was given up.
        """
        if self.stopped:
            raise GenerationStoppedError
        logprobs = self._nucleus(scores.float() / self._temperature).log_softmax(-1)
        cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
        total = cumulative[:, -1:]
        threshold = torch.minimum(self._numbers().to(scores.device) * total, total.nextafter(total.new_zeros(())))
        token = torch.searchsorted(cumulative, threshold, right=True)
        # The log-probability first: whoever reads meanwhile counts the tokens.
        self._logprobs.append(logprobs.gather(1, token)[:, 0])
        self._tokens.append(token[:, 0])
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)

    def _nucleus(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of the likeliest tokens that have `top_p` of the probability together; -inf for all others."""
        if self._top_p >= 1:
            return logits
        ordered, order = logits.sort(-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        left_out = (before >= self._top_p).scatter(1, order, before >= self._top_p)
        return logits.masked_fill(left_out, -torch.inf)

    def _numbers(self) -> torch.Tensor:
        """The next number of each row, in [0, 1): float64 [B, 1]."""
        position = len(self._tokens) % BLOCK
        if position == 0:
            self._block = np.stack([row.random(BLOCK) for row in self._rows])
        return torch.from_numpy(self._block[:, position : position + 1])

    @property
    def steps(self) -> int:
        """Tokens that every row has by now, those after its end included."""
        return len(self._tokens)

    def sampled(self) -> tuple[Int32, Float32]:
        """The tokens of every row and their log-probabilities, those after its end included: [B, T] each."""
        count = len(self._tokens)
        if not count:
            return np.empty((len(self._rows), 0), np.int32), np.empty((len(self._rows), 0), np.float32)
        tokens, logprobs = (torch.stack(column[:count], 1).cpu().numpy() for column in (self._tokens, self._logprobs))
        return tokens.astype(np.int32), logprobs
