"""What the run's processes tell each other through the replay: who is alive, where services are, what happened.

No socket, no clock, no threads, no metrics: time is an argument, and the service does the rest.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, assert_never

from actors.events import Event
from actors.membership import Member, Membership
from actors.replay import messages as m

#: A watcher that falls this far behind has lost the oldest events.
EVENTS_KEPT = 20_000


class Board:
    """Answers requests one at a time. `members` is the run's one list of who is alive.

    Args:
        timeout_seconds: see `Membership`.
        name: of this board, under which its events are numbered; another for one that begins anew.
    """

    def __init__(self, timeout_seconds: float, name: str = "") -> None:
        self.name = name
        self.members = Membership(timeout_seconds)
        self._directory: dict[str, str] = {}
        self._events: list[Event] = []
        self._events_gone = 0

    def record(self, event: Event) -> None:
        """Keep an event for whoever watches the run."""
        self._events.append(event)
        surplus = len(self._events) - EVENTS_KEPT
        if surplus > 0:
            del self._events[:surplus]
            self._events_gone += surplus

    def answer(self, request: m.BoardRequest, now: float) -> Mapping[str, Any] | None:
        """The body of the reply, or None where a long poll has nothing to say yet.

        Args:
            request: its sender was heard by `members` already.
            now: seconds of the clock that `members` is told.
        """
        match request:
            case m.Notice():
                self.record(request.event)
                return {}
            case m.Events():
                return self._news(request.after if request.board == self.name else 0)
            case m.Beat():
                self._directory |= {str(name): address for name, address in request.services.items()}
                if request.report is not None:
                    self.members.heard(request.worker, request.role, now, request.report)
                # The learner, which sends the weights, alone needs to know; a list for everyone would grow as N^2.
                return {"alive": self._alive()} if request.role == "learner" else {}
            case m.Members():
                return self._roll(now)
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

    def _news(self, after: int) -> dict[str, Any] | None:
        fresh = self._events[max(0, after - self._events_gone) :]
        if not fresh:
            return None
        last = self._events_gone + len(self._events)
        return {"board": self.name, "events": [event.model_dump(mode="json") for event in fresh], "last": last}

    def _alive(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for member in self.members.alive():
            found.setdefault(member.role, []).append(member.name)
        return found

    def _roll(self, now: float) -> dict[str, Any]:
        def told(member: Member) -> dict[str, Any]:
            silent_seconds = max(0.0, now - member.last_seen)
            report = member.report.model_dump()
            return {"name": member.name, "role": member.role, "report": report, "silent_seconds": silent_seconds}

        return {
            "members": [told(member) for member in self.members.alive()],
            "silent": [told(member) for member in self.members.silent()],
            "totals": {role: asdict(total) for role, total in self.members.totals().items()},
        }
