"""Who failed in an update, and when it is tried again: a pure state machine, fed with what happens.

    failures in a row   next update
    0                   at once, together with all others
    1                   after FIRST_SECONDS, together with all others: most failures are somebody else's
    2 and more          in an epoch of its own, after twice the time before, at most MAX_SECONDS

So a generator that fails every time holds up nobody, and is heard of twice a minute instead of many times a second.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: Time after the first failure (s): those who were evicted together have registered anew by then.
FIRST_SECONDS = 0.2
#: Longest time between two attempts (s).
MAX_SECONDS = 30.0


@dataclass(slots=True)
class Retries:
    """Times are seconds of one monotonic clock."""

    _failures: dict[str, tuple[int, float]] = field(default_factory=dict)

    def failed(self, names: Iterable[str], now: float) -> None:
        for name in names:
            count = self._failures.get(name, (0, 0.0))[0] + 1
            self._failures[name] = (count, now + min(MAX_SECONDS, FIRST_SECONDS * 2 ** (count - 1)))

    def succeeded(self, names: Iterable[str]) -> None:
        for name in names:
            self._failures.pop(name, None)

    def choose(self, waiting: Sequence[str], now: float) -> list[str]:
        """Who of those that wait for weights is in the next update; nobody where all have to wait."""
        due = [name for name in waiting if self._failures.get(name, (0, now))[1] <= now]
        together = [name for name in due if self._failures.get(name, (0, now))[0] < 2]
        return together or due[:1]

    def all_due(self, names: Iterable[str], now: float) -> bool:
        """Whether nobody of these has to wait, who take part in every update."""
        return all(self._failures.get(name, (0, now))[1] <= now for name in names)
