"""How busy the pools were and how fast, from the totals that heartbeats carry. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from actors.membership import OPTIONAL_ROLES, Report, Totals

#: The pools whose work is shown, from the start; an optional one is, once somebody of it was heard of.
POOLS = ("generator", "verifier", "learner")


@dataclass(slots=True)
class Utilisation:
    """What happened between two looks at the totals. A total is never read as lower than before, so no token is lost
    from a rate, whichever heartbeats were: what one look misses, the next one has."""

    _moment: float
    _totals: Mapping[str, Totals] = field(default_factory=dict)
    #: The last reports that the list of members had before it was lost, by name.
    _before_loss: dict[str, tuple[str, Report]] = field(default_factory=dict)
    _busy: dict[str, float] = field(default_factory=lambda: dict.fromkeys(POOLS, 0.0))
    interval_seconds: float = 0.0
    tokens_per_second: dict[str, float] = field(default_factory=dict)

    def list_was_lost(self, members: Iterable[tuple[str, str, Report]]) -> None:
        """The list of members begins anew, and its totals with it: those who come back count from where they were.

        Args:
            members: name, role and last report of each.
        """
        self._totals = {}
        self._before_loss = {name: (role, report) for name, role, report in members}

    def are_back(self, members: Iterable[tuple[str, str, Report]]) -> None:
        """The members that are on the list now; to be called before their totals are observed."""
        for name, _, report in members:
            role, before = self._before_loss.get(name, ("", report))
            if role and before.process == report.process:
                del self._before_loss[name]
                self._totals = {**self._totals, role: self._totals.get(role, Totals()).plus(before)}

    def other_list(self, totals: Mapping[str, Totals]) -> None:
        """The totals that come next are those of another list, which has these now and may have begun later."""
        self._totals, self._before_loss = totals, {}

    def observe(self, totals: Mapping[str, Totals], now: float, absent: Collection[str] = ()) -> None:
        """Take in the totals of a moment.

        Args:
            totals: what each role has done since the run's start.
            now: seconds of one monotonic clock, later than before.
            absent: the pools of which nobody is heard of; they are shown as idle.
        """
        before, self._totals = self._totals, totals
        self.interval_seconds, self._moment = now - self._moment, now
        for role in (*POOLS, *OPTIONAL_ROLES):
            old, new = before.get(role, Totals()), totals.get(role, Totals())
            aged = new.uptime_seconds - old.uptime_seconds
            if aged > 0:  # otherwise no heartbeat came since: the share of the last interval stands
                self._busy[role] = min(1.0, max(0.0, (new.busy_seconds - old.busy_seconds) / aged))
            elif role in absent and role in self._busy:
                self._busy[role] = 0.0
        self.tokens_per_second = {
            "generation": self._grown(before, "generator", "generated_tokens"),
            "learning": self._grown(before, "learner", "trained_tokens"),
        }

    @property
    def busy(self) -> dict[str, float]:
        """Share of its processes' time in which each pool worked."""
        return dict(self._busy)

    def _grown(self, before: Mapping[str, Totals], role: str, counter: str) -> float:
        grown: int = getattr(self._totals[role], counter) - getattr(before.get(role, Totals()), counter)
        return max(0, grown) / self.interval_seconds
