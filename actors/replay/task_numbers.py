"""Which task is issued next: those that are to be issued again, and then the stream's.

A task may be what its generators die of. One that was lost `attempts` times in a row, with its generator or its lease
and without a new token that was reported in between, is not issued again. On its last attempt it is a *suspect*: no
generator gets a second one, so that of many tasks that are lost together only the one that is at fault is given up.

Where there is a curriculum, some of the stream's tasks are passed over. Whoever leases knows their keys: while the
`upcoming` task is not due it says `pass_over`, and at last `draw`.
"""

import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.replay.curriculum import Curriculum
from actors.replay.limits import ReplayLimits


@dataclass(slots=True)
class TaskNumbers:
    """See the module's docstring.

    Attributes:
        attempts: how often a task may be lost.
        end: how many tasks the stream has; no end to them by default.
        shard, shards: which of every so many tasks of the stream is issued here.
        cursor: how many of the stream's tasks were issued, or passed over.
        pending, suspects: what is to be issued again, without and on the last attempt.
        examined: the suspect that each generator has, if any.
        losses: how often in a row a task was lost.
        curriculum: how often tasks are drawn again.
        passed_over: how many of the stream's tasks were passed over, by how often they are solved.
    """

    attempts: int
    end: int | None = None
    shard: int = 0
    shards: int = 1
    cursor: int = 0
    pending: deque[int] = field(default_factory=deque)
    suspects: deque[int] = field(default_factory=deque)
    examined: dict[str, int] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)
    curriculum: Curriculum = field(default_factory=Curriculum)
    passed_over: Counter[str] = field(default_factory=Counter)

    @classmethod
    def within(cls, limits: ReplayLimits) -> "TaskNumbers":
        """Those of a ledger."""
        numbers = cls(limits.generation_attempts, limits.tasks, limits.shard, limits.shards)
        numbers.adopt(limits)
        return numbers

    def adopt(self, limits: ReplayLimits) -> None:
        """Keep other bounds from now on; the tasks and the shards stay."""
        self.attempts = limits.generation_attempts
        self.curriculum.floor, self.curriculum.half_life = limits.curriculum_floor, limits.curriculum_half_life

    def to_reissue(self) -> list[int]:
        """The tasks that are to be issued again."""
        return [*self.suspects, *self.pending]

    def left(self) -> int:
        """How many tasks there are to issue."""
        fresh = sys.maxsize if self.end is None else max(0, self.end - self.cursor)
        return fresh + len(self.pending) + len(self.suspects)

    def next(self, worker: str) -> int | None:
        """A task for a generator; None where there is none that it may have."""
        if self.suspects and worker not in self.examined:
            self.examined[worker] = self.suspects.popleft()
            return self.examined[worker]
        if self.pending:
            return self.pending.popleft()
        if (number := self.upcoming(worker)) is not None:
            self.cursor += 1
        return number

    def upcoming(self, worker: str) -> int | None:
        """The stream's task that `next` would issue to a generator; None where it would issue another, or none."""
        again = self.pending or (self.suspects and worker not in self.examined)
        if again or (self.end is not None and self.cursor >= self.end):
            return None
        return self.cursor * self.shards + self.shard

    def is_due(self, key: str) -> bool:
        """Whether the curriculum has the upcoming task drawn, which has this key."""
        return self.curriculum.is_due(key)

    def pass_over(self, key: str) -> None:
        """The upcoming task, which has this key, is not issued."""
        self.passed_over[self.curriculum.passed_over(key)] += 1
        self.cursor += 1

    def draw(self, key: str) -> bool:
        """The upcoming task, which has this key, is issued next. Returns whether that has changed anything."""
        return self.curriculum.drawn(key)

    def verified(self, key: str, accuracy: float) -> bool:
        """A group of a task got its verdicts, see `Curriculum.verified`."""
        return self.curriculum.verified(key, accuracy)

    def returned(self, task: int, worker: str | None) -> None:
        """A generator does not have the task any more."""
        if worker is not None and self.examined.get(worker) == task:
            del self.examined[worker]

    def lost(self, task: int) -> bool:
        """The task went down with its generator or its lease; whether it may be issued again."""
        self.losses[task] += 1
        return self.losses[task] < self.attempts

    def done(self, task: int) -> None:
        """The task was generated, or is given up: it will not be suspected."""
        del self.losses[task]

    def again(self, task: int) -> None:
        """Issue a task again."""
        suspect = 0 < self.losses[task] == self.attempts - 1
        (self.suspects if suspect else self.pending).append(task)

    def snapshot(self, unfinished: Sequence[int]) -> dict[str, Any]:
        """What a checkpoint must remember where these tasks are leased, or further, and not done; see `resume`."""
        return {
            "cursor": self.cursor,
            "pending": [*unfinished, *self.to_reissue()],
            "passed_over": dict(self.passed_over),
            "curriculum": self.curriculum.state(),
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Begin where a checkpoint was."""
        self.cursor = snapshot["cursor"]
        self.pending.extend(snapshot["pending"])
        self._restore_curriculum(snapshot)

    def state(self) -> dict[str, Any]:
        """Everything but the limits, as MessagePack can hold it; `restore` takes it back."""
        return {
            "cursor": self.cursor,
            "pending": list(self.pending),
            "suspects": list(self.suspects),
            "examined": self.examined,
            "losses": dict(self.losses),
            "passed_over": dict(self.passed_over),
            "curriculum": self.curriculum.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` was taken of."""
        self.cursor = state["cursor"]
        self.pending, self.suspects = deque(state["pending"]), deque(state["suspects"])
        self.examined, self.losses = dict(state["examined"]), Counter(state["losses"])
        self._restore_curriculum(state)

    def _restore_curriculum(self, state: Mapping[str, Any]) -> None:
        """Journals and checkpoints of an earlier release have none."""
        self.passed_over = Counter(state.get("passed_over", {}))
        self.curriculum.restore(state.get("curriculum", {}))


#: Methods that change nothing.
READS = ("to_reissue", "left", "upcoming", "is_due", "snapshot", "state")
