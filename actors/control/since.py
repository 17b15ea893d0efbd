"""Since when something holds. Pure."""

from collections.abc import Mapping


class Since:
    """Remembers since when each pool waits for what: one look only knows of its own moment.

    Moments are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._held: Mapping[str, tuple[str, float]] = {}

    def observe(self, reasons: Mapping[str, str], now: float) -> None:
        """Take in what holds at a moment, by pool; a pool that is not there waits for nothing."""
        self._held = {
            pool: self._held[pool] if self._held.get(pool, ("",))[0] == reason else (reason, now)
            for pool, reason in reasons.items()
        }

    def seconds(self, pool: str, now: float) -> float | None:
        """For how long a pool has waited (s); None where it does not."""
        held = self._held.get(pool)
        return None if held is None else now - held[1]
