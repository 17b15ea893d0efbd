"""How long it takes until work flows again after a fault, from the moment in which the fault is seen. Pure.

A generator works again once it holds weights, a verifier or scorer once it is up, the learner once it has taken a step,
the replay once it answers, the controller once it has seen everybody. What takes the place of a dead process goes on
with its account, also where it dies itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from actors.control.liveness import Seen
from actors.events import Recovered

#: Faults after which another process has to take the place; from the others a process may recover by itself.
REPLACED = frozenset({"died", "hung"})


@dataclass(frozen=True, slots=True)
class _Fault:
    role: str
    member: str
    fault: str
    since: float


@dataclass(slots=True)
class Recoveries:
    """See the module's docstring. Moments are seconds of one monotonic clock."""

    _open: dict[str, _Fault] = field(default_factory=dict)

    def seen(self, role: str, member: str, fault: str, now: float) -> None:
        """Something is wrong with a process. What is known already goes on, under the name of what it has come to."""
        before = self._open.get(member)
        self._open[member] = (
            _Fault(role, member, fault, now) if before is None else _Fault(role, before.member, fault, before.since)
        )

    def replaced(self, member: str, by: str) -> None:
        """Another process has the place of one; they may have the same name."""
        if (fault := self._open.pop(member, None)) is not None:
            self._open[by] = fault

    def works(self, member: str, now: float) -> Iterable[Recovered]:
        """A process works; the event, where it has the place of one that ended or was killed."""
        return self._recovered(member, now) if self._is(member, REPLACED) else ()

    def back(self, member: str, now: float) -> Iterable[Recovered]:
        """A process gets on again by itself; the event, where it did not before."""
        return () if self._is(member, REPLACED) else self._recovered(member, now)

    def _is(self, member: str, faults: frozenset[str]) -> bool:
        fault = self._open.get(member)
        return fault is not None and fault.fault in faults

    def _recovered(self, member: str, now: float) -> Iterable[Recovered]:
        if (fault := self._open.pop(member, None)) is None:
            return ()
        took = max(0.0, now - fault.since)
        return (Recovered(role=fault.role, member=fault.member, fault=fault.fault, recovery_seconds=took),)

    def open(self, now: float) -> list[dict[str, object]]:
        """What has not recovered yet, oldest first."""
        faults = sorted(self._open.items(), key=lambda item: item[1].since)
        return [
            {"role": f.role, "member": f.member, "fault": f.fault, "seconds": now - f.since, "replaced_by": name}
            for name, f in faults
        ]


def works(seen: Seen) -> bool:
    """Whether work flows through a process that is on the list of members, by its report."""
    report = seen.report
    match seen.role:
        case "generator":
            return report.ready and report.version is not None
        case "learner":
            return report.ready and report.progress > 0
        case _:
            return report.ready
