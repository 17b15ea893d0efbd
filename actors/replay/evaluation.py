"""Passes over the held-out tasks, one after another: a ledger of its own for each, without a bound on staleness.

A held-out task that cannot be answered or verified is left out, and counted by its reason: another in its place would
be a second copy of one that counts already.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from actors.events import EvaluationDone, EvaluationMissing
from actors.replay.ledger import Ledger
from actors.replay.limits import REISSUED, ReplayLimits
from actors.replay.messages import CompletionVerdict
from actors.replay.queues import Entry, State

Ended = EvaluationDone | EvaluationMissing
_ENDED: TypeAdapter[Ended] = TypeAdapter(Ended)

#: Evaluations have disjoint group_ids, so that a group that comes late is never taken for one of the next evaluation.
GROUP_IDS = 2**32
#: A held-out task is verified this many times as often as a training task before it is given up: it has no substitute.
VERIFY_ATTEMPTS_FACTOR = 10


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one held-out task came to."""

    scores: Sequence[CompletionVerdict]
    tokens: int


class Asked(NamedTuple):
    """What the learner has asked for."""

    name: str
    version: int
    samples: int


@dataclass(slots=True)
class Evaluation:
    """Tasks 0 … tasks-1 of the held-out set, `samples` completions each."""

    name: str
    version: int
    tasks: int
    samples: int
    ledger: Ledger

    @classmethod
    def start(cls, number: int, asked: Asked, tasks: int, limits: ReplayLimits) -> "Evaluation":
        ledger = Ledger(_once(limits, tasks), first_group_id=number * GROUP_IDS)
        return cls(asked.name, asked.version, tasks, asked.samples, ledger)

    @property
    def left_out(self) -> dict[str, int]:
        """Tasks that will not be scored, by reason."""
        return {str(reason): n for reason, n in self.ledger.dropped.items() if reason not in REISSUED}

    def progress(self) -> int:
        """A number that grows with every task that is answered, scored or left out."""
        counts = self.ledger.counts()
        return (
            counts[State.GENERATED] + counts[State.VERIFYING] + 2 * (counts[State.READY] + sum(self.left_out.values()))
        )

    def waits_for(self) -> str:
        """Whom the tasks that are not scored yet wait for, as text."""
        waiting: Counter[str] = Counter()
        for entry in self.ledger.entries.values():
            if entry.state is not State.READY:
                waiting[entry.holder or "a verifier that is free"] += 1
        if unasked := self.ledger.tasks.left():
            waiting["a generator that is free"] += unasked
        return ", ".join(f"{who} ({n} of {self.tasks} held-out tasks)" for who, n in waiting.most_common())

    def scored(self) -> list[Entry] | None:
        """The tasks that were scored, once every task is scored or left out."""
        ready = self.ledger.groups.states[State.READY]
        if len(ready) + sum(self.left_out.values()) < self.tasks:
            return None
        return [ready[group_id] for group_id in sorted(ready)]

    def result(self, outcomes: Mapping[int, TaskResult], refusals: Mapping[str, str]) -> Ended:
        """The event that ends the evaluation.

        Args:
            outcomes: of every task that was scored, by group_id.
            refusals: what was said last of what was refused, by reason.
        """
        if not outcomes:
            why = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items())
            said = "; ".join(refusals[reason] for reason in self.left_out if reason in refusals)
            text = f"none of the {self.tasks} held-out tasks could be scored ({why})" + (f": {said}" if said else "")
            return EvaluationMissing(version=self.version, name=self.name, reason=text)
        return self._done(list(outcomes.values()), [self.ledger.entries[group_id] for group_id in outcomes])

    def _done(self, outcomes: Sequence[TaskResult], entries: Sequence[Entry]) -> EvaluationDone:
        scores = [score for outcome in outcomes for score in outcome.scores]
        formats = [s.parts["format"] for s in scores if "format" in s.parts]
        return EvaluationDone(
            version=self.version,
            name=self.name,
            pass_at_1=sum(map(_right, scores)) / len(scores),
            maj_at_k=sum(map(majority, outcomes)) / len(outcomes),
            k=self.samples,
            n=len(outcomes),
            left_out=self.left_out,
            format=sum(formats) / len(formats) if formats else None,
            mean_length=sum(outcome.tokens for outcome in outcomes) / len(scores),
            version_min=min(entry.oldest for entry in entries),
            version_max=max(entry.newest for entry in entries),
        )


class Evaluations:
    """All evaluations of a run. `current` is the one that is under way."""

    def __init__(self, tasks: int, limits: ReplayLimits) -> None:
        self.current: Evaluation | None = None
        self.limits = limits
        self._tasks = tasks
        self._asked: list[Asked] = []
        self._running = -1
        self._ended: dict[int, Ended] = {}

    def add(self, name: str, version: int, samples: int) -> int:
        """Begin, or queue, one; returns its number. Asked again, by a learner that was replaced, it is the same one,
        unless that has no result."""
        asked = Asked(name, version, samples)
        for number, before in enumerate(self._asked):
            if before == asked and not isinstance(self._ended.get(number), EvaluationMissing):
                return number
        self._asked.append(asked)
        self._begin_next()
        return len(self._asked) - 1

    @property
    def samples(self) -> int:
        """Completions a task of the current one; 0 where there is none."""
        return self.current.samples if self.current else 0

    def end(self, event: Mapping[str, Any]) -> None:
        """The current one is over; the next one begins.

        Args:
            event: what came of it, in its JSON form.
        """
        self._ended[self._running] = _ENDED.validate_python(event)
        self.current = None
        self._begin_next()

    def _begin_next(self) -> None:
        if self.current is None and self._running + 1 < len(self._asked):
            self._running += 1
            self.current = Evaluation.start(self._running, self._asked[self._running], self._tasks, self.limits)

    def ended(self, number: int) -> Ended | None:
        """What came of an evaluation that is over."""
        return self._ended.get(number)

    def standing(self, number: int) -> dict[str, Any]:
        """`result` or `missing` of an evaluation that is over; else its `progress`, a number that changes whenever
        anything is achieved for it, and `waits_for`, a text."""
        match self._ended.get(number):
            case EvaluationDone() as done:
                return {"result": done.model_dump(mode="json")}
            case EvaluationMissing(reason=reason):
                return {"missing": reason}
        if self.current is None:
            return {"missing": f"there is no evaluation {number}"}
        return {"progress": [self._running, self.current.progress()], "waits_for": self.current.waits_for()}

    def adopt(self, limits: ReplayLimits) -> None:
        """Keep to other limits from now on, also the one under way; leases begin anew next."""
        self.limits = limits
        if self.current is not None:
            self.current.ledger.adopt(_once(limits, self._tasks))

    # ---------------------------------------------------------------- the journal

    def state(self) -> dict[str, Any]:
        """Everything, as MessagePack can hold it; `restored` takes it back."""
        return {
            "tasks": self._tasks,
            "asked": [list(asked) for asked in self._asked],
            "running": self._running,
            "ended": {number: event.model_dump(mode="json") for number, event in self._ended.items()},
            "current": self.current.ledger.state() if self.current else None,
        }

    @classmethod
    def restored(cls, limits: ReplayLimits, state: Mapping[str, Any]) -> "Evaluations":
        """The evaluations that `state` was taken of."""
        self = cls(state["tasks"], limits)
        self._asked = [Asked(*asked) for asked in state["asked"]]
        self._running = state["running"]
        self._ended = {number: _ENDED.validate_python(event) for number, event in state["ended"].items()}
        if state["current"] is not None:
            self.current = Evaluation.start(self._running, self._asked[self._running], state["tasks"], limits)
            self.current.ledger = Ledger.restored(self.current.ledger.limits, state["current"])
        return self


def _once(limits: ReplayLimits, tasks: int) -> ReplayLimits:
    """What the ledger of an evaluation keeps to."""
    return ReplayLimits(
        max_staleness=0,
        groups_per_batch=tasks,
        drop_zero_variance=False,
        lease_seconds=limits.lease_seconds,
        verify_lease_seconds=limits.verify_lease_seconds,
        verify_attempts=VERIFY_ATTEMPTS_FACTOR * limits.verify_attempts,
        generation_attempts=limits.generation_attempts,
        tasks=tasks,
    )


def _right(score: CompletionVerdict) -> float:
    return score.parts.get("accuracy", score.reward)


def majority(outcome: TaskResult) -> float:
    """Accuracy of the most frequent answer of a task (the first among equals); no answer counts as one answer."""
    counts = Counter(score.answer for score in outcome.scores)
    by_answer = defaultdict(list)
    for score in outcome.scores:
        by_answer[score.answer].append(_right(score))
    winner = by_answer[counts.most_common(1)[0][0]]
    return sum(winner) / len(winner)
