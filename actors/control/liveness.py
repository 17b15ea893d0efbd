"""Which processes live and yet do not work, from what they report. Pure: no clock, no sockets, no Ray.

What has *exited* the supervisor sees at once. This is about the others, once they have come up:

    silent   not heard of for `membership.timeout_seconds` (SIGSTOP, swapping, an interpreter that is held); overdue
             `controller.hang_seconds` later. The heartbeat has a thread of its own, so that long work is no silence.
    stuck    a generator, verifier or scorer reports, but
             - its engine or its event loop did not answer for `controller.hang_seconds`, or for twice
               `weights.deadline_seconds` where that is longer: an update may hold an engine as long as that;
             - or it scored all the time, and finished no group within twice the time that one may take;
             - or it lacks weights that the learner has published, and got no newer ones for four times
               `weights.deadline_seconds`; its first ones, for `generators.startup_seconds`.
             It is said after half of that time; after all of it the process is overdue.

How long a completion takes is no sign of anything: a generator that finishes nothing for hours, while its engine
answers between two steps, is well. Time is counted on the clock of the process itself, by its reports, so that a
controller which was itself suspended finds nobody stuck. Who has not come up yet may be held by imports, or by a model
that loads: it is overdue only where it was silent for `controller.startup_seconds` more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from actors.config.recipe import Recipe
from actors.events import Unresponsive
from actors.membership import Report

#: Share of its time in which a process had work that counts as all of it; its two clocks are not read at once.
THROUGHOUT = 0.9
#: Share of the time that makes a process overdue after which it is said to be stuck.
SAID_AT = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """What the list of members says of one process; `silent_seconds` is the time since it was last heard of."""

    name: str
    role: str
    silent_seconds: float
    report: Report


@dataclass(slots=True)
class _Known:
    """What is remembered of a process since it came or came back; `*since` are in seconds of its own uptime."""

    role: str
    report: Report
    since: float
    work_since: float
    weights_since: float
    ready: bool = False
    said: str = ""
    overdue: str = ""


@dataclass(slots=True)
class Liveness:
    """See the module's docstring. `observe` takes in one look at the list; the others say what came of it."""

    recipe: Recipe
    _known: dict[str, _Known] = field(default_factory=dict)

    def observe(self, alive: Iterable[Seen], silent: Iterable[Seen]) -> list[Unresponsive]:
        """What has changed, as events: who is silent or stuck now, and who is back."""
        alive = list(alive)
        published = [s.report.version for s in alive if s.role == "learner" and s.report.version is not None]
        newest = max(published, default=None)
        return [*self._heard(alive, newest), *self._missed(silent)]

    def overdue(self) -> dict[str, str]:
        """The processes whose time is up, and why."""
        return {name: known.overdue for name, known in self._known.items() if known.overdue}

    def forget(self, name: str) -> None:
        """A process has exited, or was killed."""
        self._known.pop(name, None)

    # ---------------------------------------------------------------- those who are heard of

    def _heard(self, alive: Iterable[Seen], newest: int | None) -> Iterator[Unresponsive]:
        for seen in alive:
            report, known = seen.report, self._known.get(seen.name)
            if known is None or known.said == "silent":  # its clock ran on while it stood still
                self._known[seen.name] = _Known(seen.role, report, *3 * (report.uptime_seconds,))
                self._known[seen.name].ready = report.ready or (known is not None and known.ready)
                if known is not None:
                    yield Unresponsive(role=seen.role, member=seen.name, state="back", detail="heard of again")
                continue
            self._follow(known, report, newest)
            yield from self._judge(seen, known)

    def _follow(self, known: _Known, report: Report, newest: int | None) -> None:
        before, uptime = known.report, report.uptime_seconds
        known.report, known.ready = report, known.ready or report.ready
        worked, aged = report.busy_seconds - before.busy_seconds, uptime - before.uptime_seconds
        if report.progress != before.progress or worked < THROUGHOUT * aged:
            known.work_since = uptime
        has_newest = newest is None or (report.version is not None and report.version >= newest)
        if has_newest or report.version != before.version:
            known.weights_since = uptime

    def _judge(self, seen: Seen, known: _Known) -> Iterator[Unresponsive]:
        found = [(seconds, limit, what) for seconds, limit, what in self._standing(known) if seconds > SAID_AT * limit]
        known.overdue = next((f"{what} for {seconds:.0f} s" for seconds, limit, what in found if seconds > limit), "")
        if found and not known.said:
            known.said = "stuck"
            seconds, _, what = found[0]
            yield Unresponsive(role=seen.role, member=seen.name, state="stuck", detail=f"{what} for {seconds:.0f} s")
        elif known.said and not found:
            known.said = ""
            yield Unresponsive(role=seen.role, member=seen.name, state="back", detail="it gets on again")

    def _standing(self, known: _Known) -> Iterator[tuple[float, float, str]]:
        """(how long, at most, what) of each way in which a worker gets nowhere (s)."""
        recipe, uptime = self.recipe, known.report.uptime_seconds
        update = recipe.weights.deadline_seconds
        if known.role in ("verifier", "scorer"):
            scoring = max(recipe.replay.verify_lease_seconds, recipe.verifiers.deadline_seconds)
            yield uptime - known.work_since, 2 * scoring, "it has scored without an end"
        elif known.role == "generator":
            answer = max(recipe.controller.hang_seconds, 2 * update)
            # Its engine stood still with it, and has to be asked first.
            unanswered = min(known.report.unanswered_seconds, uptime - known.since)
            yield unanswered, answer, "its engine has not answered"
            lacking, first = uptime - known.weights_since, known.report.version is None
            if first:
                yield lacking, recipe.generators.startup_seconds, "it has not taken its first weights"
            else:
                yield lacking, 4 * update, "it has taken no new weights"

    # ---------------------------------------------------------------- those who are not

    def _missed(self, silent: Iterable[Seen]) -> Iterator[Unresponsive]:
        timeout, controller = self.recipe.membership.timeout_seconds, self.recipe.controller
        for seen in silent:
            known = self._known.setdefault(seen.name, _Known(seen.role, seen.report, 0.0, 0.0, 0.0))
            known.ready |= seen.report.ready
            patience = controller.hang_seconds + (0.0 if known.ready else controller.startup_seconds)
            if seen.silent_seconds > timeout + patience:
                known.overdue = f"it was not heard of for {seen.silent_seconds:.0f} s, although its process lives"
            if known.ready and known.said != "silent":
                known.said = "silent"
                detail = f"it was not heard of for {seen.silent_seconds:.0f} s"
                yield Unresponsive(role=seen.role, member=seen.name, state="silent", detail=detail)
