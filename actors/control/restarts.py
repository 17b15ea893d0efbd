"""How often the processes of a run may be replaced, and when a place that stayed empty is tried again. Pure.

An *incident* is everything that happens to processes which were there when it began, within
`membership.timeout_seconds` of that: a node that goes takes many with it, and a cut link silences all at once. It
counts as one restart. A process that was started since, and dies as well, is an incident of its own.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from actors.config.recipe import Recipe

#: The wait before an empty place is tried again doubles with every start that fails, up to so many times the first.
LONGEST_BACK_OFF = 16.0


@dataclass(slots=True)
class Restarts:
    """Incidents within `controller.restart_window_seconds`, of which there may be `controller.restarts`."""

    recipe: Recipe
    clock: Callable[[], float] = time.monotonic
    _incidents: deque[float] = field(default_factory=deque)

    def used_up(self, started: float) -> bool:
        """Take note of the end of a process that was started at a moment of the clock; whether it is one too many."""
        now, controller = self.clock(), self.recipe.controller
        while self._incidents and now - self._incidents[0] > controller.restart_window_seconds:
            self._incidents.popleft()
        if self._incidents:
            began = self._incidents[-1]
            if started < began and now - began <= self.recipe.membership.timeout_seconds:
                return False  # it belongs to the incident that is under way
        if len(self._incidents) >= controller.restarts:
            return True
        self._incidents.append(now)
        return False

    def remember(self, ages: Iterable[float]) -> None:
        """Take note of restarts that an earlier controller made, so many seconds ago, the oldest first. Those that came
        within `membership.timeout_seconds` of the first of them are one incident."""
        for moment in (self.clock() - age for age in ages):
            if not self._incidents or moment - self._incidents[-1] > self.recipe.membership.timeout_seconds:
                self._incidents.append(moment)

    @property
    def count(self) -> int:
        """Incidents that count now."""
        return len(self._incidents)


@dataclass(slots=True)
class Vacancy:
    """The place of a process that could not be started.

    Attributes:
        role: of the process.
        name: of the process that had the place last.
        due: moment of the clock at which it is tried again.
        wait_seconds: how long it had to wait for that (s).
    """

    role: str
    name: str
    due: float
    wait_seconds: float


@dataclass(slots=True)
class Vacancies:
    """Places that stay empty for a while."""

    first_seconds: float
    clock: Callable[[], float] = time.monotonic
    _places: dict[str, Vacancy] = field(default_factory=dict)
    #: By the name of a process that was started in an empty place: how long that place had to wait.
    _tried: dict[str, float] = field(default_factory=dict)

    def add(self, role: str, name: str) -> None:
        """A process did not come up, and its place stays empty for now."""
        before = self._tried.pop(name, None)
        longest = LONGEST_BACK_OFF * self.first_seconds
        wait = self.first_seconds if before is None else min(2 * before, longest)
        self._places[name] = Vacancy(role, name, self.clock() + wait, wait)

    def due(self) -> list[Vacancy]:
        """Those whose time has come; they are no vacancies any more."""
        now = self.clock()
        found = [place for place in self._places.values() if now >= place.due]
        for place in found:
            del self._places[place.name]
        return found

    def tried(self, place: Vacancy, name: str) -> None:
        """The process of that name was started in the place."""
        self._tried[name] = place.wait_seconds

    def filled(self, name: str) -> None:
        """The process of that name came up."""
        self._tried.pop(name, None)

    def give_up(self, role: str, count: int) -> int:
        """Leave at most so many places of a role for good; returns how many that were."""
        names = [place.name for place in self._places.values() if place.role == role][: max(0, count)]
        for name in names:
            del self._places[name]
        return len(names)

    def count(self, role: str) -> int:
        """How many places of a role are empty."""
        return sum(place.role == role for place in self._places.values())
