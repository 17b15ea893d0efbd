"""Who is alive: the one list of a run's processes, and the one timeout that takes them off it.

A pure state machine: no sockets, no clock, no threads. The replay's service owns the only instance and feeds it with
what arrives; the controller, the weight publisher and the metrics read what it says.

    not listed   heard                              -> alive
    alive        heard                              -> alive, with the newer report
    alive        timeout_seconds without a word     -> silent
    silent       heard                              -> alive: a suspended process that continues is as good as a new one
    any          `remove`, its process has exited   -> gone
    gone         a heartbeat                        -> alive: another process under its name, or it had not exited
    gone         any other message                  -> gone: it was on its way when its process left

Reports carry totals since the process started, and the totals of members that are silent, gone or replaced are kept, so
neither a lost heartbeat nor a lost process loses a token that was ever reported.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict, Field

#: What a process may be called: its name stands in logs, paths, pages and metrics.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
#: The roles that a process can have. The driver of a run is no member of it.
ROLES = ("controller", "replay", "generator", "verifier", "scorer", "learner")
#: Those that a run may have none of, and then does not show.
OPTIONAL_ROLES = frozenset({"scorer"})


class Wait(BaseModel):
    """A process waits for another one, or for a part of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    on: str = Field(max_length=200, description="whom it waits for")
    what: str = Field(max_length=200, description="what that is to do")
    seconds: float = Field(ge=0, description="for how long by now (s)")


class Report(BaseModel):
    """What a process says of itself with every heartbeat; counters are totals since its start."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ready: bool = Field(False, description="whether it has come up, with all that it loads")
    version: int | None = Field(None, ge=0, description="policy version that it holds")
    process: str = Field("", max_length=40, description="of this one process, which tells a late report from another's")
    uptime_seconds: float = Field(0.0, ge=0, description="age of the process (s)")
    progress: int = Field(0, ge=0, description="pieces of work done: groups generated or scored, optimizer steps")
    busy_seconds: float = Field(0.0, ge=0, description="time in which it had work (s)")
    unanswered_seconds: float = Field(0.0, ge=0, description="time since what does its work last answered (s)")
    generated_tokens: int = Field(0, ge=0, description="sampled tokens of finished completions")
    trained_tokens: int = Field(0, ge=0, description="completion tokens that went into an optimizer step")
    groups_in_flight: int = Field(0, ge=0, description="groups that it works on")
    metrics: str = Field("", max_length=200, description="host:port of its /metrics, as others reach it")
    service: str = Field("", max_length=200, description="where it serves others: a scorer that takes requests")
    waits: tuple[Wait, ...] = Field((), max_length=16, description="what it has waited for, for long, longest first")


@dataclass(slots=True)
class Member:
    """One process on the list; `last_seen` is in seconds of the caller's monotonic clock."""

    name: str
    role: str
    last_seen: float
    report: Report = field(default_factory=Report)


@dataclass(slots=True)
class Totals:
    """Sums over all processes of a role that there ever were; they never fall."""

    uptime_seconds: float = 0.0
    busy_seconds: float = 0.0
    generated_tokens: int = 0
    trained_tokens: int = 0

    def add(self, report: Report) -> None:
        self.uptime_seconds += report.uptime_seconds
        self.busy_seconds += report.busy_seconds
        self.generated_tokens += report.generated_tokens
        self.trained_tokens += report.trained_tokens

    def plus(self, report: Report) -> "Totals":
        """These and what another process has done."""
        return Totals(
            self.uptime_seconds + report.uptime_seconds,
            self.busy_seconds + report.busy_seconds,
            self.generated_tokens + report.generated_tokens,
            self.trained_tokens + report.trained_tokens,
        )


@dataclass(slots=True)
class Membership:
    """See the module's docstring. Methods that take `now` expect seconds of one monotonic clock."""

    timeout_seconds: float
    _alive: dict[str, Member] = field(default_factory=dict)
    _silent: dict[str, Member] = field(default_factory=dict)
    _gone: dict[str, Member] = field(default_factory=dict)
    #: By name and process: the last words of processes in whose place another one has the name now.
    _replaced: dict[tuple[str, str], Member] = field(default_factory=dict)

    def heard(self, name: str, role: str, now: float, report: Report | None = None) -> bool:
        """A message came from `name`; with `report` where it was a heartbeat.

        Returns:
            Whether the member is new, or back after it had been taken off.
        """
        member = self._alive.get(name)
        if report is None and name in self._gone:
            return False
        joined = member is None
        if member is None:
            if (gone := self._gone.pop(name, None)) is not None:  # its last words may still come
                self._replaced[name, gone.report.process] = gone
            member = self._silent.pop(name, None) or Member(name, role, now)
            self._alive[name] = member
        if report is not None:
            self._take(member, report)
        member.last_seen = now
        return joined

    def _take(self, member: Member, report: Report) -> None:
        key = member.name, report.process
        if member.report == Report() and key in self._replaced:
            member.report = self._replaced.pop(key).report  # it was taken for gone, and is back itself
        if (earlier := self._replaced.get(key)) is not None:
            member = earlier  # the last words of a process that has a successor, come late
        elif report.process != member.report.process and member.report != Report():
            # Another process under the name of one that is gone, such as a learner that resumed.
            self._replaced[member.name, member.report.process] = replace(member)
            member.report = report
        if report.uptime_seconds >= member.report.uptime_seconds:  # else it is older, and comes late
            member.report = report

    def expire(self, now: float) -> list[Member]:
        """Take off everyone who was silent for longer than the timeout; returns them."""
        silent = [m for m in self._alive.values() if now - m.last_seen > self.timeout_seconds]
        for member in silent:
            self._silent[member.name] = self._alive.pop(member.name)
        return silent

    def remove(self, name: str) -> bool:
        """Take off a member that is known to have exited. Returns whether it was on the list."""
        member = self._alive.pop(name, None)
        gone = member or self._silent.pop(name, None)
        if gone is not None:
            self._gone[name] = gone
        return member is not None

    def alive(self, role: str | None = None) -> Iterator[Member]:
        """The members on the list, of one role or of all."""
        return (m for m in self._alive.values() if role in (None, m.role))

    def silent(self) -> Iterator[Member]:
        """Those who were taken off for their silence, and are not known to have exited."""
        return iter(self._silent.values())

    def version(self, name: str) -> int:
        """The policy version that a member has reported last; 0 for one that is not on the list or holds none."""
        member = self._alive.get(name)
        return (member.report.version or 0) if member else 0

    def totals(self) -> dict[str, Totals]:
        """What each role has done since the run's start."""
        found = {role: Totals() for role in ROLES}
        for member in (*self._alive.values(), *self._silent.values(), *self._gone.values(), *self._replaced.values()):
            found[member.role].add(member.report)
        return found
