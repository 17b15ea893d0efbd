"""Where the ledger's groups stand: by state, by holder and by age. What is done to one group takes constant time."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from itertools import takewhile
from typing import Any


class State(StrEnum):
    LEASED = "leased"
    GENERATED = "generated"
    VERIFYING = "verifying"
    READY = "ready"
    DELIVERED = "delivered"
    TRAINED = "trained"


#: Groups that somebody works on, or is to work on, before they can be delivered.
UNREADY = frozenset({State.LEASED, State.GENERATED, State.VERIFYING})


@dataclass(slots=True)
class Entry:
    """One group that is neither committed nor dropped.

    Attributes:
        group_id: what it is called everywhere.
        task: number of its task.
        state: see the ledger.
        holder: the generator or verifier that has it leased.
        deadline: end of the lease (s).
        oldest, newest: versions of its oldest and newest token. Of a leased group `oldest` is the version that its
            generator held, since no token can be older.
        attempts: how often it was leased to a verifier.
        rewards: of its completions, once it is ready.
    """

    group_id: int
    task: int
    state: State
    holder: str | None = None
    deadline: float = 0.0
    oldest: int = 0
    newest: int = 0
    attempts: int = 0
    rewards: tuple[float, ...] = ()


@dataclass(slots=True)
class Queues:
    """See the module's docstring.

    Attributes:
        entries: every group by group_id, in the order of issue.
        states: the same by state, each a queue: in the order in which they came, unless they were put in front.
        held: the groups of each holder.
        ready, unready: how many groups that are ready, or on their way to it, have which oldest version.
    """

    entries: dict[int, Entry] = field(default_factory=dict)
    states: dict[State, OrderedDict[int, Entry]] = field(default_factory=lambda: {s: OrderedDict() for s in State})
    held: dict[str, dict[int, Entry]] = field(default_factory=dict)
    ready: Counter[int] = field(default_factory=Counter)
    unready: Counter[int] = field(default_factory=Counter)

    def add(self, entry: Entry) -> None:
        """Take in a group that is not there yet."""
        self.entries[entry.group_id] = entry
        self._enter(entry)

    def move(self, entry: Entry, state: State, holder: str | None = None, deadline: float = 0.0) -> None:
        """Put a group at the end of another state's queue, or of its own."""
        self._leave(entry)
        entry.state, entry.holder, entry.deadline = state, holder, deadline
        self._enter(entry)

    def arrived(self, entry: Entry, oldest: int, newest: int) -> None:
        """A leased group was generated: the versions of its tokens are known."""
        self._leave(entry)
        entry.state, entry.holder, entry.deadline = State.GENERATED, None, 0.0
        entry.oldest, entry.newest = oldest, newest
        self._enter(entry)

    def begin_at(self, entry: Entry, oldest: int) -> None:
        """The group that was leased last has tokens of an older version than its generator."""
        self._leave(entry)
        entry.oldest = min(entry.oldest, oldest)
        self._enter(entry)

    def ages(self) -> Iterator[tuple[int, int, int]]:
        """Of each oldest version, ascending: how many groups that are ready, and not, are as old or older."""
        ready = unready = 0
        for oldest in sorted(self.ready.keys() | self.unready.keys()):
            ready += self.ready[oldest]
            unready += self.unready[oldest]
            yield oldest, ready, unready

    def oldest_in_time(self, entry: Entry, first: int, size: int) -> int:
        """The oldest version that a group may be of, so that all get into batches of `size` groups in time.

        Args:
            entry: the group, which is in time as old as it is.
            first: groups of this version must be in the next batch, those of the following one in the next two, …
            size: of a batch.
        """
        ages = list(self.ages())
        for version in reversed(range(first, entry.oldest)):
            older = max((ready + unready for oldest, ready, unready in ages if oldest <= version), default=0)
            if older >= (version - first + 1) * size:
                return version + 1
        return min(first, entry.oldest)

    def put_in_front(self, entry: Entry) -> None:
        """Put a group at the beginning of its queue."""
        self.states[entry.state].move_to_end(entry.group_id, last=False)

    def remove(self, entry: Entry) -> None:
        """Forget a group."""
        self._leave(entry)
        del self.entries[entry.group_id]

    def first(self, state: State) -> Entry | None:
        """The first group of a queue."""
        return next(iter(self.states[state].values()), None)

    def over(self, state: State, now: float) -> Iterable[Entry]:
        """The groups of a queue whose deadline has passed."""
        return takewhile(lambda entry: entry.deadline <= now, self.states[state].values())

    def held_by(self, holder: str, group_ids: Iterable[int] | None = None) -> list[Entry]:
        """What somebody holds, all of it in the order of issue, or of `group_ids`."""
        held = self.held.get(holder, {})
        return [held[group_id] for group_id in (sorted(held) if group_ids is None else group_ids) if group_id in held]

    def state(self) -> dict[str, list[Any]]:
        """Everything, as MessagePack can hold it; `restored` takes it back."""
        return {state: [astuple(entry) for entry in queue.values()] for state, queue in self.states.items()}

    @classmethod
    def restored(cls, state: Mapping[str, list[Any]]) -> "Queues":
        """The queues that `state` was taken of."""
        queues = cls()
        for group_id, task, name, *fields, rewards in (row for rows in state.values() for row in rows):
            entry = Entry(group_id, task, State(name), *fields)
            entry.rewards = tuple(rewards)
            queues.add(entry)
        queues.entries = dict(sorted(queues.entries.items()))
        return queues

    def _enter(self, entry: Entry) -> None:
        self.states[entry.state][entry.group_id] = entry
        if (ages := self._ages(entry)) is not None:
            ages[entry.oldest] += 1
        if entry.holder is not None:
            self.held.setdefault(entry.holder, {})[entry.group_id] = entry

    def _leave(self, entry: Entry) -> None:
        del self.states[entry.state][entry.group_id]
        if (ages := self._ages(entry)) is not None:
            ages[entry.oldest] -= 1
            if not ages[entry.oldest]:
                del ages[entry.oldest]
        if entry.holder is not None:
            held = self.held[entry.holder]
            del held[entry.group_id]
            if not held:
                del self.held[entry.holder]

    def _ages(self, entry: Entry) -> Counter[int] | None:
        if entry.state in UNREADY:
            return self.unready
        return self.ready if entry.state is State.READY else None
