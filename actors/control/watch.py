"""What the controller hears of its processes through the replay: their events, their state, who does not work.

replay ──events, status, members──▶ Watch ──▶ Recording   (what happened)
                                          ──▶ Supervisor  (who came up)
                                          ──▶ Liveness    (who is silent or stuck) ──▶ overdue
                                          ──▶ Recoveries  (how long until work flows again)
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from actors.config.recipe import Recipe
from actors.control import overview
from actors.control.link import REPLAY_SECONDS, ReplayLink
from actors.control.liveness import Liveness, Seen
from actors.control.recording import Recording
from actors.control.recoveries import Recoveries, works
from actors.control.since import Since
from actors.control.supervisor import Supervisor
from actors.control.utilisation import Utilisation
from actors.control.wind_down import Budget
from actors.events import Event, GroupCounters, Recovered, Tick
from actors.membership import Report, Totals
from actors.observability import metrics

log = logging.getLogger(__name__)


class Watch:
    """One thread calls it; `status` and `members` are replaced whole, for others to read.

    Args:
        recipe: of the run.
        recording: takes what happened.
        midway: whether the run has begun under another controller, so that totals do not begin at 0.

    Attributes:
        replay: the connection to the replay.
        recoveries: which faults are open.
        status: what the replay said last of its groups and queues.
        members: who is on its list, as it said last.
        since: since when each pool waits for what.
    """

    def __init__(self, recipe: Recipe, recording: Recording, midway: bool = False) -> None:
        self._recipe, self._recording, self._midway = recipe, recording, midway
        self.replay, self.recoveries = ReplayLink(), Recoveries()
        self.status: dict[str, Any] = {}
        self.members: list[dict[str, Any]] = []
        self.since = Since()
        self._supervisor: Supervisor | None = None
        self._liveness = Liveness(recipe)
        self._utilisation = Utilisation(time.monotonic())
        self._budget: Budget | None = None
        self._listed: list[dict[str, Any]] = []
        #: Processes that ended: what they said last may still be on the list, under a name that another one has now.
        self._dead: set[str] = set()

    def over(self, supervisor: Supervisor) -> None:
        """Whose processes are watched."""
        self._supervisor = supervisor

    def wind_down(self, budget: Budget) -> None:
        """From now on nobody is judged, and every wait counts: the driver kills a controller that takes too long."""
        self._budget = budget

    @property
    def busy(self) -> Mapping[str, float]:
        """Share of the last interval in which each role worked."""
        return self._utilisation.busy

    def overdue(self) -> dict[str, str]:
        """The processes whose time is up, and why."""
        return self._liveness.overdue()

    def forget(self, name: str) -> None:
        """A process has exited, or was killed."""
        self._dead |= {member["report"]["process"] for member in self._listed if member["name"] == name} - {""}
        self._liveness.forget(name)
        self._ask("remove_member", {"name": name})

    def lost_replay(self) -> None:
        """The replay has ended, and its list of members with it; another is coming up."""
        self.replay.lost()
        self._utilisation.list_was_lost(_reports(self.members))

    def _ask(self, kind: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        """A request to the replay; None where there is none now, or where it does not answer in time."""
        seconds = REPLAY_SECONDS
        if self._budget is not None:
            if self.replay.silent:
                return None
            seconds = min(seconds, self._budget.until(0.9))
        if (reply := self.replay.ask(kind, body, seconds)) is not None:
            self.note(self.recoveries.works("replay", time.monotonic()))
        return reply

    def pull_events(self) -> None:
        """Record what happened since the last time; to be called before `tick`."""
        if reply := self._ask("events", {"after": self._recording.seen}):
            self._recording.add_received(reply["events"], reply["last"])

    def tick(self) -> None:
        """Record busy shares, rates and queues since the last tick, and who does not work."""
        # A replay that did not answer one question is not asked the next.
        unanswered = self.replay.silent and self._budget is None
        if unanswered or (status := self._ask("status")) is None or (listed := self.look()) is None:
            self._hear([], [])
            return
        now = time.monotonic()
        self.note(self.recoveries.works("controller", now))
        self.status = dict(status)
        totals = {role: Totals(**fields) for role, fields in listed["totals"].items()}
        if self._midway:
            self._utilisation, self._midway = Utilisation(now, totals), False
            return
        present = {member["role"] for member in self.members}
        self._utilisation.are_back(_reports(self.members))
        self._utilisation.observe(totals, now, absent=totals.keys() - present)
        in_flight = sum(member["report"]["groups_in_flight"] for member in self.members)
        queues = self.status["queues"] | {"generating": in_flight}
        busy = self._utilisation.busy
        waits = overview.waits(busy, queues)
        self.since.observe(waits, now)
        self._recording.add(
            Tick(
                interval_seconds=self._utilisation.interval_seconds,
                queues=queues,
                busy=busy,
                waits=waits,
                tokens_per_second=self._utilisation.tokens_per_second,
                groups=GroupCounters(**self.status["groups"]),
                refusals=self.status["refusals"],
            )
        )

    def last_report(self, name: str) -> Report:
        """The last words of a process, which may have ended."""
        self.look()
        return Report(**next((member["report"] for member in self._living(self._listed) if member["name"] == name), {}))

    def _living(self, members: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [member for member in members if member["report"]["process"] not in self._dead]

    def look(self) -> Mapping[str, Any] | None:
        """Ask who is on the list of members, and take note of who came up, is silent or stuck."""
        listed = self._ask("members")
        if listed is not None:
            self._listed = [*listed["members"], *listed["silent"]]
            self.members = self._living(listed["members"])
            self._hear(self.members, self._living(listed["silent"]))
        return listed

    def _hear(self, alive: Iterable[Mapping[str, Any]], silent: Iterable[Mapping[str, Any]]) -> None:
        if self._supervisor is None or self._budget is not None:
            return
        supervised = {process.name for process in self._supervisor.processes()}
        there, away = ([_seen(m) for m in members if m["name"] in supervised] for members in (alive, silent))
        unanswered = self.replay.silent_seconds
        if "replay" in supervised and unanswered > self._recipe.membership.timeout_seconds:
            away.append(Seen("replay", "replay", unanswered, Report(ready=self.replay.up)))
        now = time.monotonic()
        for event in self._liveness.observe(there, away):
            log.warning("%s is %s: %s", event.member, event.state, event.detail)
            self._recording.add(event)
            if event.state == "back":
                self.note(self.recoveries.back(event.member, now))
            else:
                self.recoveries.seen(event.role, event.member, event.state, now)
        for seen in there:
            if seen.report.ready:
                self._supervisor.came_up(seen.name)
            if works(seen):
                self.note(self.recoveries.works(seen.name, now))

    def note(self, events: Iterable[Event]) -> None:
        """Record what came of faults."""
        for event in events:
            self._recording.add(event)
            if isinstance(event, Recovered):
                metrics.RECOVERY.labels(event.role, event.fault).observe(event.recovery_seconds)


def _seen(member: Mapping[str, Any]) -> Seen:
    return Seen(member["name"], member["role"], member["silent_seconds"], Report(**member["report"]))


def _reports(members: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, Report]]:
    return [(member["name"], member["role"], Report(**member["report"])) for member in members]
