"""Which groups are scored together. Pure: no socket, no model, no clock.

    asked, in the order in which they came ──late──▶ answered so, unscored
                  │
                  └──take──▶ a batch: the first, and those after it, as long as all fit in `most_tokens`

Nothing waits for a batch to fill: what came while the last one was scored is the next one. None is passed over, so that
a long group is not kept waiting by short ones; one that is too large by itself is a batch of its own.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedGroup:
    """A prompt and its answers, as the reward model reads them.

    Attributes:
        prompt: int32 [P].
        answers: int32 [T_i] each; what reads alike is there once.
        places: for each text that was asked about, its position in `answers`.
    """

    prompt: Int32
    answers: tuple[Int32, ...]
    places: tuple[int, ...]

    @property
    def size(self) -> int:
        """Tokens that the reward model reads: the prompt once."""
        return len(self.prompt) + sum(map(len, self.answers))


@dataclass(frozen=True, slots=True, eq=False)
class AskedScores:
    """A request; `identity` and `number` say whom to answer, `due` when nobody waits any more (s of one clock)."""

    identity: bytes
    number: int
    due: float
    group: EncodedGroup


class ScoringQueue:
    """See the module's docstring."""

    def __init__(self, most_tokens: int) -> None:
        self._most_tokens = most_tokens
        self._asked: deque[AskedScores] = deque()

    def __len__(self) -> int:
        return len(self._asked)

    def add(self, asked: AskedScores) -> None:
        self._asked.append(asked)

    def take_late(self, now: float) -> list[AskedScores]:
        """Those for whose scores nobody waits any more."""
        late = [asked for asked in self._asked if asked.due <= now]
        if late:
            self._asked = deque(asked for asked in self._asked if asked.due > now)
        return late

    def take(self) -> list[AskedScores]:
        """The next batch; empty where nothing waits."""
        batch: list[AskedScores] = []
        tokens = 0
        while self._asked and (not batch or tokens + self._asked[0].group.size <= self._most_tokens):
            batch.append(self._asked.popleft())
            tokens += batch[-1].group.size
        return batch
