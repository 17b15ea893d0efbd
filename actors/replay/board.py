"""What the run's processes tell each other through the replay: who is alive, where services are, what happened.

No socket, no clock, no threads, no metrics: time is an argument, and the service does the rest.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any, assert_never

from actors.events import Event
from actors.membership import Member, Membership
from actors.replay import messages as m

#: A watcher that falls this far behind has lost the oldest events.
EVENTS_KEPT = 20_000


def first_event(events: Sequence[tuple[int, Event]], wall_seconds: float) -> int:
    """The number of the first event after a restart: beyond all that were told, also of those that no journal has.

    Args:
        events: that the journal has.
        wall_seconds: since the epoch; a million numbers a second are more than a run needs.
    """
    return max(events[-1][0] + 2 if events else 1, int(wall_seconds * 1e6))


class Board:
    """Answers requests one at a time. `members` is the run's one list of who is alive.

    Args:
        timeout_seconds: of that list.
        events: that were recorded before a restart, with their numbers.
        first_event: number of the first event that this process records, beyond all that were ever told.
    """

    def __init__(
        self,
        timeout_seconds: float,
        events: Sequence[tuple[int, Event]] = (),
        first_event: int = 1,
    ) -> None:
        self.members = Membership(timeout_seconds)
        self._directory: dict[str, str] = {}
        self._events = list(events)
        self._latest = {event.kind: event for _, event in self._events}
        self._next = first_event
        self._unwritten: list[tuple[int, Event]] = []
        #: Nobody is told of events from this number on.
        self._withheld = math.inf

    def record(self, event: Event) -> None:
        """Keep an event for whoever watches the run."""
        numbered = self._next, event
        self._next += 1
        self._latest[event.kind] = event
        self._events.append(numbered)
        self._unwritten.append(numbered)
        del self._events[: max(0, len(self._events) - EVENTS_KEPT)]

    @property
    def first_event(self) -> int:
        """Number of the oldest event that is kept."""
        return self._events[0][0] if self._events else self._next

    def take_unwritten(self) -> list[tuple[int, Event]]:
        """The events since the last call, with their numbers; before each lot one number is left for `withhold`."""
        taken, self._unwritten = self._unwritten, []
        self._next += bool(taken)
        return taken

    def withhold(self, taken: Sequence[tuple[int, Event]], reason: Event) -> None:
        """Tell nobody of events that `take_unwritten` gave last, which could be lost, until `release`; of the reason
        everybody is told at once. It comes before them, since watchers ask for what comes after the latest."""
        if not taken:
            self.record(reason)
            return
        self._withheld = taken[0][0]
        numbered = taken[0][0] - 1, reason
        self._latest[reason.kind] = reason
        self._events.insert(bisect_left(self._events, self._withheld, key=itemgetter(0)), numbered)
        self._unwritten.append(numbered)

    def release(self) -> None:
        """What was withheld cannot be lost any more."""
        self._withheld = math.inf

    def answer(self, request: m.BoardRequest, now: float) -> Mapping[str, Any] | None:
        """The body of the reply, or None where a long poll has nothing to say yet.

        Args:
            request: its sender was heard by `members` already.
            now: seconds of the clock that `members` is told.
        """
        match request:
            case m.Notice():
                # One that equals the latest of its kind is told again, since the answer was lost.
                if request.event != self._latest.get(request.event.kind):
                    self.record(request.event)
                return {}
            case m.Events():
                return self._news(request.after)
            case m.Beat():
                self._directory |= {str(service): address for service, address in request.services.items()}
                if request.report is not None:
                    self.members.heard(request.worker, request.role, now, request.report)
                return self._needed_by(request.role)
            case m.Members():
                return self._roll(now, request.only)
            case m.RemoveMember():
                return {"removed": self.members.remove(request.name)}
            case m.LeaveRun():
                return {"removed": self.members.remove(request.worker)}
            case m.Announce():
                self._directory[request.service] = request.address
                return {}
            case m.Directory():
                return {"services": dict(self._directory)}
            case _:
                assert_never(request)

    @property
    def last(self) -> int:
        """Number of the latest event that anybody may be told of."""
        told = bisect_left(self._events, self._withheld, key=itemgetter(0))
        return self._events[told - 1][0] if told else 0

    def _news(self, after: int) -> dict[str, Any] | None:
        told = bisect_left(self._events, self._withheld, key=itemgetter(0))
        fresh = self._events[bisect_right(self._events, after, key=itemgetter(0)) : told]
        if not fresh:
            return None
        fields = [{**event.model_dump(mode="json"), "number": number} for number, event in fresh]
        return {"events": fields, "last": fresh[-1][0]}

    def _needed_by(self, role: str) -> dict[str, Any]:
        """Who else is there, for those who need to know; a list for everyone would grow as N^2."""
        if role == "learner":  # which sends the weights
            return {"alive": self._alive()}
        scorers = self.members.alive("scorer") if role == "verifier" else ()
        found = {scorer.name: scorer.report.service for scorer in scorers if scorer.report.service}
        return {"scorers": found} if found else {}

    def _alive(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for member in self.members.alive():
            found.setdefault(member.role, []).append(member.name)
        return found

    def _roll(self, now: float, only: str) -> dict[str, Any]:
        def told(member: Member) -> dict[str, Any]:
            silent_seconds = max(0.0, now - member.last_seen)
            report = member.report.model_dump()
            return {"name": member.name, "role": member.role, "report": report, "silent_seconds": silent_seconds}

        return {
            "members": [told(member) for member in self.members.alive() if only in ("", member.role)],
            "silent": [told(member) for member in self.members.silent() if only in ("", member.role)],
            "totals": {role: asdict(total) for role, total in self.members.totals().items()},
        }
