"""Every task of a run: an endless training stream with random access, and the tasks it never returns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.tasks.order import Mixture, Shuffle, apportion
from actors.tasks.sources import Dataset, open_source
from actors.tasks.task import Messages, Task, split_hash

_LOOKED_AT = 4  # a generated source is searched for this many times the tasks it must set apart
_DRAWS = 16  # ... and for at most this many draws a task, because small families repeat themselves
_ATTEMPTS = 10_000


@dataclass(frozen=True, slots=True)
class _Split:
    """What the split of one source found."""

    held_out: list[Task]
    development: list[Task]
    limit: float  # problems of this rank or below are set apart, in memory or not
    trainable: Sequence[int]  # indices that may be trained on; for a generated source all, to be checked one by one


class TaskStream:
    """Every training task by index, deterministic in (config, seed), infinite; and the tasks that are set apart.

    The split: among the problems of a source, the held-out ones are those of the lowest ranks, where a problem's rank
    is a hash of its key; the development tasks are the next ones; all others are trained on. A generated source is
    sampled to find where the ranks must be cut, and every task below the cut stays out, sampled or not. The split
    depends on the sources alone, not on the seed, so that runs are compared on the same problems and a later stage
    of training does not see what an earlier one held out.

    A source passes through all its training problems before it repeats one; a generated source serves, in place of each
    problem that is set apart, another one out of turn.

    Raises RecipeError if a source is bad or too small.
    """

    held_out: tuple[Task, ...]

    def __init__(self, config: TasksConfig, seed: int):
        weights = [source.weight for source in config.sources]
        self._sources = [open_source(source) for source in config.sources]
        self._mixture = Mixture(weights, seed)
        self._reserved: set[str] = set()
        self._splits: list[_Split] = []
        shares = zip(apportion(config.held_out, weights), apportion(config.development, weights), strict=True)
        for problems, (held_out, development) in zip(self._sources, shares, strict=True):
            self._splits.append(_split(problems, held_out, development, self._reserved))
            self._reserved.update(task.key for task in self._splits[-1].held_out + self._splits[-1].development)
        self._orders = [
            Shuffle(len(split.trainable), seed, f"training/{number}") for number, split in enumerate(self._splits)
        ]
        self.held_out = _by_rank(task for split in self._splits for task in split.held_out)
        self._development = _by_rank(task for split in self._splits for task in split.development)

    def train(self, index: int) -> Task:
        """The training task at an index >= 0; never held out, never a development task."""
        if index < 0:
            raise ValueError(f"the index of a task must not be negative: {index}")
        source, position = self._mixture(index)
        split, order = self._splits[source], self._orders[source]
        for attempt in range(_ATTEMPTS):
            # a later attempt looks at a far position of the order, so that neighbours don't substitute the same task
            task = self._sources[source][split.trainable[order(position + attempt * (1 << 60))]]
            if self._is_trainable(task, split):
                return task
        raise RecipeError(
            f"{self._sources[source].label}: nearly all of its problems are held out; lower tasks.held_out or "
            "tasks.development, or make the source larger"
        )

    def development(self, count: int) -> tuple[Task, ...]:
        """`count` distinct tasks for choosing when a cold start ends: neither trained on nor held out.

        Raises RecipeError if fewer were set apart.
        """
        if count > len(self._development):
            raise RecipeError(
                f"{count} development tasks are asked for, but {len(self._development)} are set apart; raise "
                "tasks.development, or make the sources larger"
            )
        return self._development[:count]

    def is_set_apart(self, messages: Messages) -> bool:
        """Whether this problem, however a source would word it, is one of the held-out or development tasks."""
        return any(problems.key_of(messages) in self._reserved for problems in self._sources)

    def _is_trainable(self, task: Task, split: _Split) -> bool:
        return split_hash(task.key) > split.limit and task.key not in self._reserved


def _split(problems: Dataset, held_out: int, development: int, reserved: set[str]) -> _Split:
    found = _distinct(problems, held_out + development)
    fresh = _by_rank(task for key, task in found.items() if key not in reserved)
    # at least one problem must be left to train on
    development = min(development, max(0, (len(fresh) - held_out) // 4))
    if len(fresh) <= held_out + development:
        raise RecipeError(
            f"{problems.label}: {len(fresh)} distinct problems were found, of which {held_out} should be held out; "
            "lower tasks.held_out, or make the source larger"
        )
    apart = fresh[: held_out + development]
    limit = split_hash(apart[-1].key) if apart else -1.0
    trainable: Sequence[int] = range(len(problems))
    if problems.listed:
        trainable = [
            index for index in trainable if split_hash(key := problems[index].key) > limit and key not in reserved
        ]
    return _Split(list(fresh[:held_out]), list(apart[held_out:]), limit, trainable)


def _distinct(problems: Dataset, apart: int) -> dict[str, Task]:
    """All distinct problems of a listed source; of a generated one, enough to set `apart` of them apart."""
    order = Shuffle(len(problems), 0, "split")
    found: dict[str, Task] = {}
    draws = len(problems) if problems.listed else min(len(problems), _DRAWS * max(1, apart))
    for position in range(draws):
        task = problems[order(position)]
        found.setdefault(task.key, task)
        if not problems.listed and len(found) > _LOOKED_AT * apart:
            break
    return found


def _by_rank(tasks: Iterable[Task]) -> tuple[Task, ...]:
    return tuple(sorted(tasks, key=lambda task: (split_hash(task.key), task.key)))
