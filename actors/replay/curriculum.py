"""How often a task is sampled again: often where the policy solves it sometimes, seldom where always or never.

    s = Σ w_i a_i / Σ w_i,   w_i = 2^(-i / half_life)        the solve rate of a task, over its verified groups
    keep = max(floor, 4 s (1 - s))                           the share of its turns at which it is drawn

Group i = 0 is the latest, and a_i is the mean accuracy of its completions. s (1 - s) is the variance of an accuracy of
0 or 1, 1/4 at most; expected improvement grows with it (Foster et al., "Learning to Reason at the Frontier of
Learnability", 2025). A task that was never verified is drawn.

There is no chance in it, so that a replay that comes back goes on alike: at each of its turns a task's *credit* grows
by `keep`; from 1 on it is drawn, and pays 1. So of n turns at the same `keep` it takes n * keep, up to one. Credits
begin at a hash of the task's key, lest all tasks of one solve rate are drawn in the same pass through their source.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.replay.rewards import band

#: So many turns, times 1 / floor, are passed over in a row at most; by chance that many would be once in 22,000 draws.
PATIENCE = 10
#: So many tasks are followed, and others are always drawn: the state has to fit into a message, and into checkpoints.
MOST_FOLLOWED = 2**17


@dataclass(slots=True)
class Standing:
    """A task that was verified.

    Attributes:
        solved, groups: the sums Σ w_i a_i and Σ w_i.
        credit: see the module's docstring.
    """

    solved: float
    groups: float
    credit: float

    @property
    def solve_rate(self) -> float:
        return self.solved / self.groups


@dataclass(slots=True)
class Curriculum:
    """See the module's docstring; pure. Tasks are known by the keys of their problems.

    Attributes:
        floor: the least share of its turns at which a task is drawn; 1: there is no curriculum, and nothing is kept.
        half_life: groups of a task after which one counts half.
        standings: of the tasks that were verified, up to `MOST_FOLLOWED` of them.
        bands: how many of them are solved how often, see `band`.
    """

    floor: float = 1.0
    half_life: float = 2.0
    standings: dict[str, Standing] = field(default_factory=dict)
    bands: Counter[str] = field(default_factory=Counter)

    @property
    def is_on(self) -> bool:
        return self.floor < 1

    @property
    def most_in_a_row(self) -> int:
        """How many turns may be passed over before the next is taken, due or not: nobody waits long for a task."""
        return math.ceil(PATIENCE / self.floor)

    def keep(self, key: str) -> float:
        """The share of its turns at which a task is drawn."""
        if (standing := self.standings.get(key)) is None:
            return 1.0
        return max(self.floor, 4 * standing.solve_rate * (1 - standing.solve_rate))

    def is_due(self, key: str) -> bool:
        """Whether a task is to be drawn at the turn that it has now."""
        return key not in self.standings or self.standings[key].credit + self.keep(key) >= 1

    def passed_over(self, key: str) -> str:
        """A task's turn is over, and it was not drawn. Returns how often it is solved.

        Raises:
            KeyError: it was never verified.
        """
        self.standings[key].credit += self.keep(key)
        return band(self.standings[key].solve_rate)

    def drawn(self, key: str) -> bool:
        """A task was drawn, due or not. Returns whether that has changed anything."""
        if (standing := self.standings.get(key)) is None:
            return False
        standing.credit = max(0.0, standing.credit + self.keep(key) - 1)
        return True

    def verified(self, key: str, accuracy: float) -> bool:
        """A task's group got its verdicts, of this mean accuracy. Returns whether it is kept in mind."""
        standing = self.standings.get(key)
        if not self.is_on or (standing is None and len(self.standings) >= MOST_FOLLOWED):
            return False
        if standing is None:
            standing = self.standings[key] = Standing(accuracy, 1.0, credit_at_first(key))
        else:
            self.bands[band(standing.solve_rate)] -= 1
            decay = 0.5 ** (1 / self.half_life)
            standing.solved, standing.groups = decay * standing.solved + accuracy, decay * standing.groups + 1
        self.bands[band(standing.solve_rate)] += 1
        return True

    def state(self) -> dict[str, list[float]]:
        """What is known of each task, as JSON and MessagePack can hold it; `restore` takes it back."""
        return {key: [each.solved, each.groups, each.credit] for key, each in self.standings.items()}

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Know what `state` was taken of."""
        self.standings = {key: Standing(*numbers) for key, numbers in state.items()}
        self.bands = Counter(band(each.solve_rate) for each in self.standings.values())


def credit_at_first(key: str) -> float:
    """A number in [0, 1), uniform over keys, and independent of the hash that holds tasks out."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, person=b"leeway credit").digest()
    return (int.from_bytes(digest) >> 11) / 2.0**53
