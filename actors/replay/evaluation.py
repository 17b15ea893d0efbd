"""Passes over the held-out tasks, one after another: a ledger of its own for each, without a bound on staleness.

A held-out task that cannot be answered or verified is left out, and counted by its reason: another in its place would
be a second copy of one that counts already.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.events import EvaluationDone, EvaluationMissing
from actors.replay.ledger import REISSUED, Entry, Ledger, ReplayLimits, State
from actors.replay.messages import CompletionVerdict, Evaluate

#: Evaluations have disjoint group_ids, so that a group that comes late is never taken for one of the next evaluation.
GROUP_IDS = 2**32
#: A held-out task is verified this many times as often as a training task before it is given up: it has no substitute.
VERIFY_ATTEMPTS_FACTOR = 10


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one held-out task came to."""

    scores: Sequence[CompletionVerdict]
    tokens: int


@dataclass(slots=True)
class Evaluation:
    """Tasks 0 … tasks-1 of the held-out set, `samples` completions each."""

    name: str
    version: int
    tasks: int
    samples: int
    ledger: Ledger
    outcomes: dict[int, TaskResult] = field(default_factory=dict)

    @classmethod
    def start(cls, number: int, request: Evaluate, tasks: int, limits: ReplayLimits) -> "Evaluation":
        once = ReplayLimits(
            max_staleness=0,
            groups_per_batch=tasks,
            drop_zero_variance=False,
            lease_seconds=limits.lease_seconds,
            verify_lease_seconds=limits.verify_lease_seconds,
            verify_attempts=VERIFY_ATTEMPTS_FACTOR * limits.verify_attempts,
            generation_attempts=limits.generation_attempts,
            tasks=tasks,
        )
        ledger = Ledger(once, first_group_id=number * GROUP_IDS)
        return cls(request.name, request.version, tasks, request.samples, ledger)

    def lease(self, worker: str, capacity: int, now: float) -> list[Entry]:
        return self.ledger.lease(worker, 0, capacity, now)

    def verdict(
        self, group_id: int, scores: Sequence[CompletionVerdict] | None, tokens: int, retryable: bool = True
    ) -> None:
        rewards = None if scores is None else [s.reward for s in scores]
        if self.ledger.verdict(group_id, rewards, retryable) and scores is not None:
            self.outcomes[group_id] = TaskResult(scores, tokens)

    @property
    def left_out(self) -> dict[str, int]:
        """Tasks that will not be scored, by reason."""
        return {str(reason): n for reason, n in self.ledger.dropped.items() if reason not in REISSUED}

    def progress(self) -> int:
        """A number that grows with every task that is answered, scored or left out."""
        counts = self.ledger.counts()
        answered = sum(counts[state] for state in (State.GENERATED, State.VERIFYING, State.READY))
        return answered + len(self.outcomes) + 2 * sum(self.left_out.values())

    def waits_for(self) -> str:
        """Whom the tasks that are not scored yet wait for, as text."""
        waiting: Counter[str] = Counter()
        for entry in self.ledger.entries.values():
            if entry.state is not State.READY:
                waiting[entry.holder or "a verifier that is free"] += 1
        if unasked := self.tasks - self.ledger.cursor + len(self.ledger.pending):
            waiting["a generator that is free"] += unasked
        return ", ".join(f"{who} ({n} of {self.tasks} held-out tasks)" for who, n in waiting.most_common())

    def result(self, refusals: dict[str, str]) -> EvaluationDone | EvaluationMissing | None:
        """The event that ends the evaluation, once every task is scored or left out.

        Args:
            refusals: what was said last of what was refused, by reason.
        """
        entries = [entry for entry in self.ledger.entries.values() if entry.state is State.READY]
        if len(entries) + sum(self.left_out.values()) < self.tasks:
            return None
        if not entries:
            why = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items())
            said = "; ".join(refusals[reason] for reason in self.left_out if reason in refusals)
            text = f"none of the {self.tasks} held-out tasks could be scored ({why})" + (f": {said}" if said else "")
            return EvaluationMissing(version=self.version, name=self.name, reason=text)
        return self._done(entries)

    def _done(self, entries: Sequence[Entry]) -> EvaluationDone:
        outcomes = [self.outcomes[entry.group_id] for entry in entries]
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
        self._tasks, self._limits = tasks, limits
        self._waiting: deque[tuple[int, Evaluate]] = deque()
        self._running = -1
        self._ended: dict[int, EvaluationDone | EvaluationMissing] = {}
        self._asked = 0

    def add(self, request: Evaluate) -> int:
        """Begin, or queue, one; returns its number."""
        number, self._asked = self._asked, self._asked + 1
        self._waiting.append((number, request))
        self._begin_next()
        return number

    @property
    def samples(self) -> int:
        """Completions a task of the current one; 0 where there is none."""
        return self.current.samples if self.current else 0

    def end(self, refusals: dict[str, str]) -> EvaluationDone | EvaluationMissing | None:
        """What came of the current one, where it is over; the next one begins."""
        event = self.current.result(refusals) if self.current else None
        if event is not None:
            self._ended[self._running] = event
            self.current = None
            self._begin_next()
        return event

    def _begin_next(self) -> None:
        if self.current is None and self._waiting:
            self._running, request = self._waiting.popleft()
            self.current = Evaluation.start(self._running, request, self._tasks, self._limits)

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
