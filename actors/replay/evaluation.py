"""Passes over the held-out tasks, or over training tasks, one after another: a ledger of its own for each, without a
bound on staleness.

A task that cannot be answered or verified is left out, and counted by its reason: another in its place would be a
second copy of one that counts already. Of a task that was scored its result is kept, and neither texts nor tokens;
where completions are kept, they are in a file by then (`actors.replay.kept`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from actors.events import EvaluationDone, EvaluationMissing
from actors.replay import accuracy
from actors.replay.accuracy import TaskResult, undecided
from actors.replay.ledger import Ledger
from actors.replay.limits import REISSUED, ReplayLimits
from actors.replay.messages import Purpose
from actors.replay.queues import State

Ended = EvaluationDone | EvaluationMissing
_ENDED: TypeAdapter[Ended] = TypeAdapter(Ended)

#: Evaluations have disjoint group_ids, so that a group that comes late is never taken for one of the next evaluation.
GROUP_IDS = 2**32
#: The file of completions of training tasks.
SAMPLES = "samples-drawn.jsonl"
#: A task is verified this many times as often as in training before it is given up: it has no substitute.
VERIFY_ATTEMPTS_FACTOR = 10


class Asked(NamedTuple):
    """What the learner has asked for.

    Attributes:
        name: of the evaluation.
        version: the policy version it stands for.
        samples: completions a task.
        training: so many training tasks, from the first one on; 0: the held-out tasks.
        keep: whether every completion goes into a file.
        provenance: what stands in each of its lines beside the completion.
    """

    name: str
    version: int
    samples: int
    training: int = 0
    keep: bool = False
    provenance: Mapping[str, str | int] = {}

    @property
    def purpose(self) -> Purpose:
        """What its groups are generated for."""
        return "sample" if self.training else "evaluate"

    @property
    def file(self) -> str:
        """Name of the file of its completions."""
        return SAMPLES if self.training else f"evaluation-{self.name.replace(' ', '-')}.jsonl"


#: Why a task without a rule is left out, where training tasks are sampled.
NO_RULE = "no_rule"


@dataclass(slots=True)
class Evaluation:
    """Tasks 0 … tasks-1.

    Attributes:
        asked: what was asked for.
        tasks: how many tasks it has.
        ledger: of their groups.
        results: of the tasks that were scored, by group_id.
        written: size of the file of its completions (bytes).
    """

    asked: Asked
    tasks: int
    ledger: Ledger
    results: dict[int, TaskResult] = field(default_factory=dict)
    written: int = 0

    @classmethod
    def start(cls, number: int, asked: Asked, held_out: int, limits: ReplayLimits) -> "Evaluation":
        tasks = asked.training or held_out
        return cls(asked, tasks, Ledger(_once(limits, tasks), first_group_id=number * GROUP_IDS))

    @property
    def name(self) -> str:
        return self.asked.name

    @property
    def samples(self) -> int:
        return self.asked.samples

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
        return ", ".join(f"{who} ({n} of {self.tasks} {self._what})" for who, n in waiting.most_common())

    @property
    def _what(self) -> str:
        return "training tasks" if self.asked.training else "held-out tasks"

    @property
    def is_over(self) -> bool:
        """Whether every task is scored or left out."""
        return len(self.results) + sum(self.left_out.values()) >= self.tasks

    def result(self, refusals: Mapping[str, str]) -> Ended:
        """The event that ends the evaluation.

        Args:
            refusals: what was said last of what was refused, by reason.
        """
        left_out, results = self._measured()
        if not results:
            why = ", ".join(f"{n} {reason}" for reason, n in left_out.items())
            said = "; ".join(refusals[reason] for reason in self.left_out if reason in refusals)
            text = f"none of the {self.tasks} {self._what} could be scored ({why})" + (f": {said}" if said else "")
            return EvaluationMissing(version=self.asked.version, name=self.name, reason=text)
        return self._done(left_out, results)

    def _measured(self) -> tuple[dict[str, int], list[TaskResult]]:
        """How many tasks were left out, by reason, and what the others came to: those that a rule decides about."""
        results = [self.results[group_id] for group_id in sorted(self.results)]
        decided = [result for result in results if not undecided(result.scores)]
        without = {NO_RULE: len(results) - len(decided)} if len(decided) < len(results) else {}
        return self.left_out | without, decided

    def _done(self, left_out: dict[str, int], results: list[TaskResult]) -> EvaluationDone:
        return EvaluationDone(
            version=self.asked.version,
            name=self.name,
            k=self.samples,
            left_out=left_out,
            pass_at=accuracy.curve(results, self.samples),
            by_source=accuracy.by_source(results, self.samples),
            version_min=min(result.oldest for result in results),
            version_max=max(result.newest for result in results),
            **accuracy.scores(results, self.samples).model_dump(),
        )


class Evaluations:
    """All evaluations of a run, which has `held_out` such tasks. `current` is the one that is under way."""

    def __init__(self, held_out: int, limits: ReplayLimits) -> None:
        self.current: Evaluation | None = None
        self.limits = limits
        self._held_out = held_out
        self._asked: list[Asked] = []
        self._running = -1
        self._ended: dict[int, Ended] = {}

    def add(
        self,
        name: str,
        version: int,
        samples: int,
        training: int = 0,
        keep: bool = False,
        provenance: Mapping[str, str | int] | None = None,
    ) -> int:
        """Begin, or queue, one (see `Asked`); returns its number. Asked again, by a learner that was replaced, it is
        the same one, unless that has no result."""
        asked = Asked(name, version, samples, training, keep, provenance or {})
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

    def collect(self, group_id: int, result: Sequence[Any], nbytes: int = 0) -> None:
        """A task of the current one is scored.

        Args:
            group_id: of the task's group.
            result: what it came to, as `TaskResult.state` gives it.
            nbytes: what was added to the file of completions.
        """
        assert self.current is not None
        self.current.results[group_id] = TaskResult.restored(result)
        self.current.written += nbytes

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
            self.current = Evaluation.start(self._running, self._asked[self._running], self._held_out, self.limits)

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
            self.current.ledger.adopt(_once(limits, self.current.tasks))

    # ---------------------------------------------------------------- the journal

    def state(self) -> dict[str, Any]:
        """Everything, as MessagePack can hold it; `restored` takes it back."""
        return {
            "tasks": self._held_out,
            "asked": [list(asked) for asked in self._asked],
            "running": self._running,
            "ended": {number: event.model_dump(mode="json") for number, event in self._ended.items()},
            "current": self.current.ledger.state() if self.current else None,
            "results": {g: result.state() for g, result in self.current.results.items()} if self.current else {},
            "written": self.current.written if self.current else 0,
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
            # A journal of an earlier release has neither: the records of its groups say the same.
            results = state.get("results", {})
            self.current.results = {group_id: TaskResult.restored(result) for group_id, result in results.items()}
            self.current.written = state.get("written", 0)
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
