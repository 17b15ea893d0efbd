"""What the replay keeps of its groups, and the state of it that its journal brings back."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from actors.errors import JournalError
from actors.events import First, FirstSeen, RolloutSample
from actors.replay.accuracy import undecided
from actors.replay.answers import READS as ANSWER_READS
from actors.replay.answers import Answers
from actors.replay.batch import Head
from actors.replay.changes import Accepted, Call, Changes, Key, recorded, replay
from actors.replay.evaluation import Evaluations
from actors.replay.ledger import READS, Ledger
from actors.replay.limits import ReplayLimits
from actors.replay.messages import CompletionVerdict, Purpose
from actors.replay.payload import Payload
from actors.replay.queues import Entry, State
from actors.replay.rewards import RewardStatistics, Verified, sums_of
from actors.replay.task_numbers import READS as TASK_READS

#: Purpose and group of each.
Leases = list[tuple[Purpose, Entry]]
#: States of a group that has its rewards.
SCORED = frozenset({State.READY, State.DELIVERED, State.TRAINED})
#: Of the mean of equal rewards.
_ROUNDING = 1e-9


@dataclass(slots=True)
class GroupRecord:
    """What is kept of a group beside its ledger entry."""

    task: Mapping[str, Any]
    prompt: str = ""
    texts: tuple[str, ...] = ()
    payload: Payload | None = None
    scores: tuple[CompletionVerdict, ...] = ()
    ready_at: float = 0.0


def delivered(entry: Entry, record: GroupRecord) -> tuple[Head, Payload]:
    """What the learner gets of a group."""
    assert record.payload is not None
    parts = [score.parts for score in record.scores]
    head = Head(group_id=entry.group_id, source=record.task["source"], rewards=list(entry.rewards), parts=parts)
    return head, record.payload


def verified_of(record: GroupRecord) -> Verified:
    """What the verdicts say of a training group."""
    scores = record.scores
    assert record.payload is not None
    return Verified(
        record.task["source"],
        tuple(score.reward for score in scores),
        tuple(score.parts for score in scores),
        sums_of(score.observed for score in scores),
        None if undecided(scores) else sum(score.parts.get("accuracy", 0.0) for score in scores) / len(scores),
        int(record.payload.lengths.sum()),
    )


def firsts_of(record: GroupRecord) -> dict[First, int]:
    """Which completion shows reflection, and which is reinforced with it: it has more than its group's mean reward."""
    scores, found = record.scores, dict[First, int]()
    reflecting = [i for i, score in enumerate(scores) if score.reflections]
    if reflecting:
        best = max(reflecting, key=lambda i: scores[i].reward)
        found["reflection"] = best
        if scores[best].reward > sum(score.reward for score in scores) / len(scores) + _ROUNDING:
            found["rewarded reflection"] = best
    return found


def samples_of(record: GroupRecord) -> list[RolloutSample]:
    """The best and the worst completion of a group, for people to read."""
    if record.payload is None or not record.scores:
        return []
    order = sorted(range(len(record.scores)), key=lambda i: record.scores[i].reward)
    return [sample_of(record, i) for i in dict.fromkeys((order[-1], order[0]))]


def sample_of(record: GroupRecord, completion: int) -> RolloutSample:
    """A completion of a group that has its verdicts, for people to read."""
    assert record.payload is not None
    score = record.scores[completion]
    return RolloutSample(
        task_key=record.task["key"],
        prompt=record.prompt,
        response=record.texts[completion],
        reward=score.reward,
        parts=score.parts,
        version_min=record.payload.oldest,
        version_max=record.payload.newest,
        spans=record.payload.spans_of(completion),
        truncated=bool(record.payload.truncated[completion]),
        verdict_status=score.status,
        source=record.task["source"],
        reflections=score.reflections,
    )


@dataclass(slots=True)
class Refusals:
    """What was said last of groups that were dropped, or whose verification broke, by reason."""

    said: dict[str, str] = field(default_factory=dict)

    def note(self, reason: str, detail: str) -> None:
        self.said[reason] = detail

    def note_first(self, reason: str, detail: str) -> None:
        """Unless something was said of it already."""
        self.said.setdefault(reason, detail)

    def state(self) -> dict[str, Any]:
        return dict(self.said)


@dataclass(frozen=True, slots=True)
class Past:
    """What a journal holds.

    Attributes:
        limits: that held when it was written.
        state: of `ReplayState`, at some moment.
        calls: that were carried out since.
        accepted: what was submitted of a group. Raises JournalError where it is not there.
        scores: that a group was given. Raises JournalError where they are not there.
    """

    limits: ReplayLimits
    state: Mapping[str, Any]
    calls: list[Call]
    accepted: Callable[[Key], Accepted]
    scores: Callable[[Key], tuple[CompletionVerdict, ...]]


class ReplayState:
    """The state machines behind the replay. Every call that changes one of them is in `changes`."""

    def __init__(
        self,
        ledger: Ledger,
        evaluations: Evaluations,
        rewards: RewardStatistics | None = None,
        refusals: Refusals | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.changes = Changes()
        self.ledger = recorded("train", ledger, READS, self._record)
        self.tasks = recorded("tasks", ledger.tasks, TASK_READS, self._record)
        self.evaluations = recorded("evaluations", evaluations, ("standing", "ended", "state"), self._record)
        self.rewards = recorded("rewards", rewards or RewardStatistics(), ("state",), self._record)
        self.refusals = recorded("refusals", refusals or Refusals(), ("state",), self._record)
        self.answers = recorded("answers", answers or Answers(), ANSWER_READS, self._record)

    def _record(self, call: Call) -> None:
        self.changes.calls.append(call)

    def ledger_of(self, purpose: Purpose) -> Ledger | None:
        """The ledger that groups of a purpose are in; None where no evaluation is under way."""
        if purpose == "train":
            return self.ledger
        current = self.evaluations.current
        if current is None or current.asked.purpose != purpose:
            return None
        return recorded("evaluate", current.ledger, READS, self._record)

    def ledgers(self) -> list[tuple[Purpose, Ledger]]:
        """Evaluations come first: they are short, and somebody waits for them."""
        purposes: tuple[Purpose, ...] = ("evaluate", "sample", "train")
        return [(purpose, ledger) for purpose in purposes if (ledger := self.ledger_of(purpose)) is not None]

    def held_of(self, worker: str, state: State, groups: Iterable[Key]) -> Leases:
        """Those of the groups, by purpose and group_id, that a worker holds in a state."""
        held: Leases = []
        for purpose, group_id in groups:
            entry = ledger.entries.get(group_id) if (ledger := self.ledger_of(purpose)) else None
            if entry is not None and (entry.holder, entry.state) == (worker, state):
                held.append((purpose, entry))
        return held

    def lease_training(
        self, worker: str, version: int, capacity: int, now: float, key_of: Callable[[int], str | None]
    ) -> list[Entry]:
        """As `Ledger.lease`, without the tasks that the curriculum passes over.

        Args:
            worker, version, capacity, now: as there.
            key_of: the key of a task, by its number; None where its source cannot make it.
        """
        if not self.tasks.curriculum.is_on:
            return self.ledger.lease(worker, version, capacity, now)
        entries: list[Entry] = []
        for _ in range(min(capacity, self.ledger.to_lease(version))):
            self._come_to_one_that_is_due(worker, key_of)
            entries += self.ledger.lease(worker, version, 1, now)
        return entries

    def _come_to_one_that_is_due(self, worker: str, key_of: Callable[[int], str | None]) -> None:
        for passed in itertools.count():
            number = self.tasks.upcoming(worker)
            if number is None or (key := key_of(number)) is None:
                return
            if passed >= self.tasks.curriculum.most_in_a_row or self.tasks.is_due(key):
                self.tasks.draw(key)
                return
            self.tasks.pass_over(key)

    def verified(self, record: GroupRecord) -> tuple[Verified, tuple[FirstSeen, ...]]:
        """A training group has its verdicts. Returns what they say, and what its completions are the first to show."""
        verified, firsts = verified_of(record), firsts_of(record)
        self.rewards.add(verified.source, verified.rewards, verified.observed, verified.accuracy, verified.tokens)
        if verified.accuracy is not None:
            self.tasks.verified(record.task["key"], verified.accuracy)
        new, step = self.rewards.new_firsts(list(firsts)), self.rewards.untold + 1
        return verified, tuple(FirstSeen(what=each, step=step, sample=sample_of(record, firsts[each])) for each in new)

    def take_changes(self) -> Changes:
        """What has changed since the last call."""
        taken, self.changes = self.changes, Changes()
        return taken

    def state(self) -> dict[str, Any]:
        """Everything, as MessagePack can hold it."""
        return {
            "train": self.ledger.state(),
            "evaluations": self.evaluations.state(),
            "rewards": self.rewards.state(),
            "refusals": self.refusals.state(),
            "answers": self.answers.state(),
        }

    def status(self) -> dict[str, Any]:
        """The counters of the ledger, as the event `tick` has them, and the queues."""
        counts = self.ledger.counts()
        return {
            "version": self.ledger.version,
            "conserved": self.ledger.conserved(),
            "queues": {str(state): counts[state] for state in (State.GENERATED, State.READY)},
            "groups": {
                "issued": self.ledger.issued,
                "in_flight": counts[State.LEASED] + counts[State.GENERATED] + counts[State.VERIFYING],
                "ready": counts[State.READY],
                "delivered": counts[State.DELIVERED],
                "trained": counts[State.TRAINED],
                "committed": self.ledger.committed,
                "dropped": {str(reason): n for reason, n in self.ledger.dropped.items()},
            },
            "evaluating": self.evaluations.current.name if self.evaluations.current else None,
            "refusals": dict(self.refusals.said),
        }

    @classmethod
    def restored(cls, past: Past, limits: ReplayLimits) -> Self:
        """The state that a journal holds, from here on under `limits`.

        Raises:
            JournalError: its calls cannot be carried out again.
        """
        found = past.state
        ledger = Ledger.restored(past.limits, found["train"])
        evaluations = Evaluations.restored(past.limits, found["evaluations"])
        rewards, refusals = RewardStatistics.restored(found["rewards"]), Refusals(dict(found["refusals"]))
        answers = Answers.restored(found["answers"])
        targets = {
            "train": ledger,
            "tasks": ledger.tasks,
            "evaluations": evaluations,
            "rewards": rewards,
            "refusals": refusals,
            "answers": answers,
        }

        def find(name: str) -> object:
            return evaluations.current.ledger if name == "evaluate" and evaluations.current else targets[name]

        try:
            replay(past.calls, find)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise JournalError(f"the calls in the journal cannot be carried out again ({error!r})") from error
        ledger.adopt(limits)
        evaluations.adopt(limits)
        return cls(ledger, evaluations, rewards, refusals, answers)

    def begin_leases(self, now: float) -> None:
        """Let every lease begin anew: the clock is another one, or nobody could renew."""
        for _, ledger in self.ledgers():
            ledger.renew_all(now)

    def holders(self) -> set[tuple[str, Literal["generator", "verifier"]]]:
        """Who holds leases."""
        return {
            (entry.holder, "generator" if entry.state is State.LEASED else "verifier")
            for _, ledger in self.ledgers()
            for entry in ledger.entries.values()
            if entry.holder is not None
        }

    def records(
        self, past: Past, task: Callable[[Purpose, int], Mapping[str, Any]], now: float
    ) -> dict[Key, GroupRecord]:
        """What is kept beside the entries of all ledgers.

        Args:
            past: what the journal holds of them.
            task: what a task number stands for.
            now: when they became ready, for all that is known.

        Raises:
            JournalError: where that is not whole.
        """
        found: dict[Key, GroupRecord] = {}
        current = self.evaluations.current
        collected = current.results if current else {}
        for purpose, ledger in self.ledgers():
            for entry in ledger.entries.values():
                if purpose != "train" and entry.group_id in collected:
                    continue
                key = purpose, entry.group_id
                record = found[key] = GroupRecord(task(purpose, entry.task))
                if entry.state is not State.LEASED:
                    accepted = past.accepted(key)
                    record.prompt, record.texts, record.payload = accepted.prompt, accepted.texts, accepted.payload
                if entry.state in SCORED:
                    record.scores, record.ready_at = past.scores(key), now
        return found
