"""Every task of a run: an endless training stream with random access, and the held-out tasks it never returns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.tasks.order import Mixture, Shuffle, apportion
from actors.tasks.sources import Dataset, open_source, source_labels
from actors.tasks.task import Messages, Task, split_hash

_LOOKED_AT = 4  # a generated source is searched for this many times the tasks it must hold out
_SAMPLES = 16  # ... and for at most this many samples a task, because small families repeat themselves
_ATTEMPTS = 10_000


@dataclass(frozen=True, slots=True)
class _Split:
    """What the split of one source found."""

    held_out: list[Task]
    development: list[Task]
    limit: float  # problems of this hash or below are held out, in memory or not
    trainable: Sequence[int]  # indices that may be trained on; for a generated source all, to be checked one by one


class TaskStream:
    """Every training task by index, deterministic in (config, seed), infinite; and the held-out tasks.

    The split: among the problems of a source, the held-out ones are those of the lowest `split_hash`; the development
    tasks, held out too, are the next ones; all others are trained on. A generated source is sampled to find where the
    hashes must be cut, and every task below the cut stays out, sampled or not. The split
    depends on the sources alone, not on the seed, so that runs are compared on the same problems and a later stage
    of training does not see what an earlier one held out. A task without a rule is never held out, since no accuracy
    could be measured on it.

    A source passes through all its training problems before it repeats one; a generated source serves, in place of each
    problem that is held out, another one out of turn.

    Raises:
        RecipeError: if a source is bad or too small.
    """

    held_out: tuple[Task, ...]
    #: Whether the template takes one message a prompt.
    single_prompt: bool

    def __init__(self, config: TasksConfig, seed: int):
        weights = [source.weight for source in config.sources]
        self.single_prompt = config.template != "chat"
        self._sources = [open_source(source, self.single_prompt) for source in config.sources]
        self._labels = source_labels(config.sources)
        self._mixture = Mixture(weights, seed)
        self._reserved: set[str] = set()
        self._splits: list[_Split] = []
        measured = [weight if _has_rules(of) else 0.0 for weight, of in zip(weights, self._sources, strict=True)]
        if not any(measured):
            raise RecipeError(
                "tasks.sources: no task has a rule to measure accuracy by (verifier: none); add a source that has"
            )
        held: Sequence[int | None] = [None] * len(weights)
        if config.held_out != "all":
            held = apportion(config.held_out, measured)
        shares = zip(held, apportion(config.development, measured), strict=True)
        for problems, label, (held_out, development) in zip(self._sources, self._labels, shares, strict=True):
            self._splits.append(_split(problems, label, held_out, development, self._reserved))
            self._reserved.update(task.key for task in self._splits[-1].held_out + self._splits[-1].development)
        self._orders = [
            Shuffle(max(1, len(split.trainable)), seed, f"training/{number}")
            for number, split in enumerate(self._splits)
        ]
        self.held_out = _by_hash(task for split in self._splits for task in split.held_out)
        self._development = _by_hash(task for split in self._splits for task in split.development)

    def train(self, index: int) -> Task:
        """The training task at an index >= 0; never held out, never a development task.

        Raises:
            RecipeError: if the source has hardly any problem that is not held out.
            ValueError: if the index is negative.
        """
        if index < 0:
            raise ValueError(f"the index of a task must not be negative: {index}")
        source, position = self._mixture(index)
        split, order = self._splits[source], self._orders[source]
        if not len(split.trainable):
            raise RecipeError(f"{self._sources[source].label}: all of its problems are held out (tasks.held_out: all)")
        for attempt in range(_ATTEMPTS):
            # a later attempt looks at a far position of the order, so that neighbours don't substitute the same task
            task = self._sources[source][split.trainable[order(position + attempt * (1 << 60))]]
            if self._is_trainable(task, split):
                return replace(task, source=self._labels[source])
        raise RecipeError(
            f"{self._sources[source].label}: nearly all of its problems are held out; lower tasks.held_out or "
            "tasks.development, or make the source larger"
        )

    def development(self, count: int) -> tuple[Task, ...]:
        """`count` distinct tasks for choosing when a cold start ends: neither trained on nor evaluated on.

        Raises:
            RecipeError: if there are fewer.
        """
        if count > len(self._development):
            raise RecipeError(
                f"{count} development tasks are asked for, but {len(self._development)} are held out for it; raise "
                "tasks.development, or make the sources larger"
            )
        return self._development[:count]

    def is_held_out(self, messages: Messages) -> bool:
        """Whether this problem, however a source would format it, is one of the held-out or development tasks."""
        return any(problems.key_of(messages) in self._reserved for problems in self._sources)

    def _is_trainable(self, task: Task, split: _Split) -> bool:
        return _may_train(task, split.limit) and task.key not in self._reserved


def _has_rules(problems: Dataset) -> bool:
    return not problems.listed or any(problems[index].has_rule for index in range(len(problems)))


def _may_train(task: Task, limit: float) -> bool:
    return not task.has_rule or split_hash(task.key) > limit


def _split(problems: Dataset, label: str, held_out: int | None, development: int, reserved: set[str]) -> _Split:
    """`held_out` is None where all are."""
    found = _distinct(problems, len(problems) if held_out is None else held_out + development)
    free = [replace(task, source=label) for key, task in found.items() if key not in reserved]
    fresh = _by_hash(task for task in free if task.has_rule)
    if held_out is None:
        return _Split(list(fresh), [], 1.0, ())
    # at least one problem must be left to train on
    development = min(development, max(0, (len(fresh) - held_out) // 4))
    if len(fresh) < held_out + development or len(free) <= held_out + development:
        raise RecipeError(
            f"{problems.label}: {len(free)} distinct problems were found, of which {held_out} should be held out; "
            "lower tasks.held_out, or make the source larger"
        )
    reserved_here = fresh[: held_out + development]
    limit = split_hash(reserved_here[-1].key) if reserved_here else -1.0
    trainable: Sequence[int] = range(len(problems))
    if problems.listed:
        trainable = [
            index for index in trainable if _may_train(task := problems[index], limit) and task.key not in reserved
        ]
    return _Split(list(fresh[:held_out]), list(reserved_here[held_out:]), limit, trainable)


def _distinct(problems: Dataset, wanted: int) -> dict[str, Task]:
    """All distinct problems of a listed source; of a generated one, enough to hold `wanted` of them out."""
    order = Shuffle(len(problems), 0, "split")
    found: dict[str, Task] = {}
    samples = len(problems) if problems.listed else min(len(problems), _SAMPLES * max(1, wanted))
    for position in range(samples):
        task = problems[order(position)]
        found.setdefault(task.key, task)
        if not problems.listed and len(found) > _LOOKED_AT * wanted:
            break
    return found


def _by_hash(tasks: Iterable[Task]) -> tuple[Task, ...]:
    return tuple(sorted(tasks, key=lambda task: (split_hash(task.key), task.key)))
