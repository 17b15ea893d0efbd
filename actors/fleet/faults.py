"""Which faults befall a fleet, and when: a schedule that follows from its seed. Pure."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["kill", "suspend", "cut", "slow"]

#: Mean time between two faults of a role (s), and the kinds that befall it. What is not here is left alone.
FAULTS: Mapping[str, tuple[float, tuple[Kind, ...]]] = {
    "generator": (1.0, ("kill", "suspend", "cut", "slow")),
    "verifier": (10.0, ("kill", "suspend", "cut")),
    "learner": (30.0, ("kill", "suspend", "cut")),
    "replay": (30.0, ("kill", "suspend")),
    "controller": (40.0, ("kill",)),
}
#: The same for real processes, which take longer to come up. Their links are not cut: there is nothing between them.
REAL_FAULTS: Mapping[str, tuple[float, tuple[Kind, ...]]] = {
    "generator": (60.0, ("kill", "suspend")),
    "verifier": (60.0, ("kill", "suspend")),
    "learner": (120.0, ("kill", "suspend")),
    "replay": (120.0, ("kill", "suspend")),
    "controller": (180.0, ("kill",)),
}
#: Shortest and longest time that a fault other than a kill lasts (s): below and above the heartbeat timeout.
LASTS_SECONDS = (1.0, 12.0)
#: How fast a slow generator is, of what it was.
SLOW = 0.2


@dataclass(frozen=True, slots=True)
class Fault:
    """At `seconds` from the beginning one process of a role is hit, for `lasts` seconds (a kill: for good).

    `pick` in [0, 1) says which one, of those that live then, in the order of their names.
    """

    seconds: float
    role: str
    kind: Kind
    lasts: float
    pick: float


class Victim(Protocol):
    """A process that faults befall."""

    def kill(self) -> None: ...

    def suspend(self, suspended: bool) -> None: ...

    def cut(self, cut: bool) -> None: ...

    def slow(self, speed: float) -> None: ...


class Afflicted(Protocol):
    """A run that faults befall."""

    def victims(self, role: str) -> Sequence[Victim]:
        """The processes of a role that are up, in an order that lasts."""
        ...

    def sleep_until(self, moment: float) -> None:
        """Until a moment of the monotonic clock. Raises RunError where the run ends before."""
        ...


def schedule(seed: int, seconds: float, faults: Mapping[str, tuple[float, tuple[Kind, ...]]] = FAULTS) -> list[Fault]:
    """The faults of so many seconds, in order. Each role's come as a Poisson process, whatever the others do."""
    found = []
    for role, (mean, kinds) in sorted(faults.items()):
        source = random.Random(f"{seed} {role}")
        moment = source.expovariate(1 / mean)
        while moment < seconds:
            kind = source.choice(kinds)
            lasts = 0.0 if kind == "kill" else source.uniform(*LASTS_SECONDS)
            found.append(Fault(moment, role, kind, lasts, source.random()))
            moment += source.expovariate(1 / mean)
    return sorted(found, key=lambda fault: fault.seconds)
