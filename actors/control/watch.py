"""What the controller hears of its processes through the replay: their events, their state, who does not work.

replay ──events, status, members──▶ Watch ──▶ Recording   (what happened)
                                          ──▶ Supervisor  (who came up)
                                          ──▶ Liveness    (who is silent or stuck) ──▶ overdue
                                          ──▶ Recoveries  (how long until work flows again)
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.config.recipe import Recipe
from actors.control import overview
from actors.control.link import REPLAY_SECONDS, ReplayLink
from actors.control.liveness import Liveness, Seen
from actors.control.placement import processes
from actors.control.recording import Recording
from actors.control.recoveries import Recoveries, works
from actors.control.since import Since
from actors.control.supervisor import Supervisor, name_of
from actors.control.utilisation import Utilisation
from actors.control.wind_down import Budget
from actors.events import Event, GroupCounters, Recovered, Tick
from actors.membership import Report, Totals
from actors.observability import metrics
from actors.replay.shards import FIRST, added, service_of

log = logging.getLogger(__name__)


class Watch:
    """One thread calls it; `status` and `members` are replaced whole, for others to read.

    Args:
        recipe: of the run.
        recording: takes what happened.
        midway: whether the run has begun under another controller, so that totals do not begin at 0.

    Attributes:
        shards: the connections to the replay's shards.
        recoveries: which faults are open.
        status: what the replay said last of its groups and queues.
        members: who is on its list, as it said last.
        since: since when each pool waits for what.
    """

    def __init__(self, recipe: Recipe, recording: Recording, midway: bool = False) -> None:
        self._recipe, self._recording, self._midway = recipe, recording, midway
        self.shards = [ReplayLink(name_of("replay", shard, 0)) for shard in range(processes(recipe, "replay"))]
        self.recoveries = Recoveries()
        self.status: dict[str, Any] = {}
        self._statuses: dict[int, Mapping[str, Any]] = {}
        self._seen = dict.fromkeys(range(1, len(self.shards)), recording.seen)
        #: Whose list of members is read: one of them has heard of everybody for as long as it lives.
        self._lister, self._other_list = FIRST, False
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
        for link in self._there():
            self._ask(link, "remove_member", {"name": name})

    def announce_shards(self, addresses: Sequence[str]) -> None:
        """Let whoever joins with the address of the first shard find the others."""
        for shard, address in enumerate(addresses):
            if shard != FIRST and address:
                self._ask(self.shards[FIRST], "announce", {"service": service_of(shard), "address": address})

    def lost_replay(self, shard: int) -> None:
        """A shard has ended, and its list of members with it; another is coming up."""
        self.shards[shard].lost()
        if shard == self._lister and not self._another_list():
            self._utilisation.list_was_lost(_reports(self.members))

    def _another_list(self) -> bool:
        """Read the members of another shard from now on; whether there is one."""
        others = [n for n, link in enumerate(self.shards) if link.up and not link.silent]
        self._lister, self._other_list = (others[0], True) if others else (self._lister, self._other_list)
        return bool(others)

    def _there(self) -> list[ReplayLink]:
        """Whom it is worth to ask: of several shards those that are not silent."""
        return [link for link in self.shards if not link.silent] or self.shards

    def _ask(self, link: ReplayLink, kind: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        """A request to a shard; None where it is not there now, or does not answer in time."""
        seconds = REPLAY_SECONDS
        if self._budget is not None:
            if link.silent:
                return None
            seconds = min(seconds, self._budget.until(0.9))
        if (reply := link.ask(kind, body, seconds)) is not None:
            self.works(link.name)
        return reply

    def pull_events(self) -> None:
        """Record what happened since the last time; to be called before `tick`."""
        for shard, link in enumerate(self.shards):
            after = self._seen.get(shard, self._recording.seen)
            if not (reply := self._ask(link, "events", {"after": after})):
                continue
            # What a shard sees first may be known from another.
            known = self._recording.state.firsts
            fresh = [event for event in reply["events"] if event["kind"] != "first" or event["what"] not in known]
            if shard == FIRST:
                self._recording.add_received(fresh, reply["last"])
            else:  # the numbers on record are the first one's
                self._recording.add_received([{**event, "number": 0} for event in fresh], 0)
                self._seen[shard] = reply["last"]

    def tick(self) -> None:
        """Record busy shares, rates and queues since the last tick, and who does not work."""
        for shard, link in enumerate(self.shards):
            # A replay that did not answer one question is not asked the next.
            unanswered = link.silent and self._budget is None
            if not unanswered and (status := self._ask(link, "status")) is not None:
                self._statuses[shard] = status
        # Of a shard that is away, what it has said last: its journal has it.
        known = [self._statuses[shard] for shard in sorted(self._statuses)]
        silent = all(link.silent for link in self.shards)
        if silent or len(known) < len(self.shards) or (listed := self.look()) is None:
            self._hear([], [])
            return
        now = time.monotonic()
        self.works("controller")
        status = added(known)
        totals = {role: Totals(**fields) for role, fields in listed["totals"].items()}
        if self._midway:
            self._utilisation, self._midway = self._since_last_tick(totals, now), False
        if self._other_list:
            self._utilisation.other_list(totals)
            self._other_list = False
        present = {member["role"] for member in self.members}
        self._utilisation.are_back(_reports(self.members))
        self._utilisation.observe(totals, now, absent=totals.keys() - present)
        in_flight = sum(member["report"]["groups_in_flight"] for member in self.members)
        queues = status["queues"] | {"generating": in_flight}
        busy = self._utilisation.busy
        waits = overview.waits(busy, queues)
        event = Tick(
            interval_seconds=self._utilisation.interval_seconds,
            queues=queues,
            busy=busy,
            waits=waits,
            tokens_per_second=self._utilisation.tokens_per_second,
            groups=GroupCounters(**status["groups"]),
            refusals=status["refusals"],
        )

        def show() -> None:
            self.status = status
            self.since.observe(waits, now)

        self._recording.add(event, together=show)

    def _since_last_tick(self, totals: dict[str, Totals], now: float) -> Utilisation:
        """What the controller before knew: what was generated since its last tick on record is not lost."""
        state = self._recording.state
        known = min(round(state.generated - state.generated_before), totals["generator"].generated_tokens)
        before = totals | {"generator": replace(totals["generator"], generated_tokens=known)}
        told = state.tick.seconds if state.tick else 0.0
        return Utilisation(now - max(self._recording.seconds - told, self._recipe.controller.interval_seconds), before)

    def last_report(self, name: str) -> Report:
        """The last words of a process, which may have ended."""
        self.look()
        return Report(**next((member["report"] for member in self._living(self._listed) if member["name"] == name), {}))

    def _living(self, members: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [member for member in members if member["report"]["process"] not in self._dead]

    def look(self) -> Mapping[str, Any] | None:
        """Ask who is on the list of members, and take note of who came up, is silent or stuck."""
        lister = self.shards[self._lister]
        listed = self._ask(lister, "members")
        if listed is None and self._another_list():
            lister = self.shards[self._lister]
            listed = self._ask(lister, "members")
        if listed is not None:
            others = [link for link in self._there() if link is not lister]
            replies = [self._ask(link, "members", {"only": "replay"}) or {"members": []} for link in others]
            alive = [*listed["members"], *(shard for reply in replies for shard in reply["members"])]
            self._listed = [*alive, *listed["silent"]]
            self.members = self._living(alive)
            self._hear(self.members, self._living(listed["silent"]))
        return listed

    def _hear(self, alive: Iterable[Mapping[str, Any]], silent: Iterable[Mapping[str, Any]]) -> None:
        if self._supervisor is None or self._budget is not None:
            return
        supervised = {process.name for process in self._supervisor.processes()}
        there, away = ([_seen(m) for m in members if m["name"] in supervised] for members in (alive, silent))
        for link in self.shards:
            if link.name in supervised and link.silent_seconds > self._recipe.membership.timeout_seconds:
                away.append(Seen(link.name, "replay", link.silent_seconds, Report(ready=link.up)))
        now = time.monotonic()
        for event in self._liveness.observe(there, away):
            log.warning("%s is %s: %s", event.member, event.state, event.detail)
            self._recording.add(event)
            if event.state == "back":
                with self._recording.reading():
                    self._note(self.recoveries.back(event.member, now))
            else:
                self.seen(event.role, event.member, event.state, now)
        for seen in there:
            if seen.report.ready:
                self._supervisor.came_up(seen.name)
            if works(seen):
                self.works(seen.name)

    def close(self) -> None:
        """Close the connections to the replay."""
        for link in self.shards:
            link.close()

    # ---------------------------------------------------------------- faults, which other threads are shown

    def seen(self, role: str, member: str, fault: str, now: float) -> None:
        """As `Recoveries.seen`."""
        with self._recording.reading():
            self.recoveries.seen(role, member, fault, now)

    def replaced(self, member: str, by: str) -> None:
        """As `Recoveries.replaced`."""
        with self._recording.reading():
            self.recoveries.replaced(member, by)

    def works(self, member: str) -> None:
        """A process works; what that ends is on record by then."""
        with self._recording.reading():
            self._note(self.recoveries.works(member, time.monotonic()))

    def _note(self, events: Iterable[Event]) -> None:
        for event in events:
            self._recording.add(event)
            if isinstance(event, Recovered):
                metrics.RECOVERY.labels(event.role, event.fault).observe(event.recovery_seconds)


def _seen(member: Mapping[str, Any]) -> Seen:
    return Seen(member["name"], member["role"], member["silent_seconds"], Report(**member["report"]))


def _reports(members: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, Report]]:
    return [(member["name"], member["role"], Report(**member["report"])) for member in members]
