"""One pass over the held-out tasks: a ledger of its own, without bounds on staleness, and the scores."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.events import EvaluationDone
from actors.replay.ledger import Entry, Ledger, ReplayLimits
from actors.replay.messages import CompletionVerdict

#: Evaluations have disjoint group_ids, so that a group that comes late is never taken for one of the next evaluation.
GROUP_IDS = 2**32


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one held-out task came to."""

    scores: Sequence[CompletionVerdict]
    tokens: int


@dataclass(slots=True)
class Evaluation:
    """Tasks 0 … tasks-1 of the held-out set, `samples` completions each."""

    number: int
    name: str
    version: int
    tasks: int
    samples: int
    ledger: Ledger
    outcomes: dict[int, TaskResult] = field(default_factory=dict)

    @classmethod
    def start(
        cls, number: int, name: str, version: int, tasks: int, samples: int, limits: ReplayLimits
    ) -> "Evaluation":
        once = ReplayLimits(
            max_staleness=0,
            groups_per_batch=tasks,
            drop_zero_variance=False,
            lease_seconds=limits.lease_seconds,
            verify_lease_seconds=limits.verify_lease_seconds,
            verify_attempts=10 * limits.verify_attempts,
        )
        return cls(number, name, version, tasks, samples, Ledger(once, first_group_id=number * GROUP_IDS))

    def lease(self, worker: str, capacity: int, now: float) -> list[Entry]:
        return self.ledger.lease(worker, 0, capacity, now)

    def task_of(self, entry: Entry) -> int:
        """Index of the held-out task; a task whose verification kept breaking is replaced by the first ones."""
        return entry.task % self.tasks

    def verdict(self, group_id: int, scores: Sequence[CompletionVerdict] | None, tokens: int) -> bool:
        taken = self.ledger.verdict(group_id, None if scores is None else [s.reward for s in scores])
        if taken and scores is not None:
            self.outcomes[group_id] = TaskResult(scores, tokens)
        return taken

    def result(self) -> EvaluationDone | None:
        """The event that ends the evaluation, once every task is scored."""
        batch = self.ledger.take_batch(0)
        if batch is None:
            return None
        outcomes = [self.outcomes[entry.group_id] for entry in batch]
        scores = [score for outcome in outcomes for score in outcome.scores]
        formats = [s.parts["format"] for s in scores if "format" in s.parts]
        return EvaluationDone(
            version=self.version,
            name=self.name,
            pass_at_1=sum(map(_right, scores)) / len(scores),
            maj_at_k=sum(map(majority, outcomes)) / len(outcomes),
            k=self.samples,
            n=len(outcomes),
            format=sum(formats) / len(formats) if formats else None,
            mean_length=sum(outcome.tokens for outcome in outcomes) / len(scores),
            version_min=min(entry.oldest for entry in batch),
            version_max=max(entry.newest for entry in batch),
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
