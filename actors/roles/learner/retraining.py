"""The steps of a run, trained again from the batches that its journal keeps."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import torch

from actors.config.recipe import Recipe
from actors.errors import RunError
from actors.replay.batch import Head, group_of
from actors.replay.payload import Payload
from actors.roles.learner.batches import staleness_of
from actors.roles.learner.settings import learner_config
from actors.roles.learner.sft import cold_start
from actors.tasks.stream import TaskStream
from learner import Trainer
from learner.checkpoint import Difference
from learner.extra import CHECKPOINTS, checkpoints, damage, read_meta

Batch = tuple[int, list[tuple[Head, Payload]]]


@dataclass(frozen=True, slots=True)
class Era:
    """What holds from the step after `after` on."""

    after: int
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be trained again.

    Attributes:
        folder: of the run.
        model: that its training started from.
        first, last: steps that are asked for, from 1; earlier ones are trained on the way, from the nearest checkpoint.
        eras: in the order of their steps, the first from step 0 on.
        compared: whether the outcome is to be what the run's checkpoints hold.
    """

    folder: Path
    model: Path
    first: int
    last: int
    eras: Sequence[Era]
    compared: bool

    @property
    def recorded(self) -> dict[int, Path]:
        """The whole checkpoints of the run, by step."""
        found = checkpoints(self.folder / CHECKPOINTS).items()
        return {step: path for step, path in found if damage(path) is None}

    def era(self, step: int) -> Era:
        """What holds for a step."""
        return [era for era in self.eras if era.after < step][-1]


@dataclass(frozen=True, slots=True)
class Retrained:
    """A step that was trained again.

    Attributes:
        step: from 1.
        statistics: see `learner.STATISTICS`.
        staleness: trained tokens by how many versions old they were.
        compared: whether the run has a checkpoint of this step, which it was compared with.
        difference: from that; None where it is bit-identical, or was not compared.
    """

    step: int
    statistics: dict[str, float]
    staleness: dict[int, int]
    compared: bool
    difference: Difference | None


def retrain(plan: Plan, batches: Iterable[Batch], say: Callable[[str], None]) -> Iterator[Retrained]:
    """Train again, and yield the steps that are asked for.

    Args:
        plan: what, from where, and how.
        batches: of the run, in order; earlier ones than are needed are passed over.
        say: is told what else happens.

    Raises:
        RunError: a batch is missing.
    """
    coming = iter(batches)
    first = list(islice(coming, 1))  # where there is none it says so, before hours are spent on a cold start
    trainer = _begin(plan, say)
    era = plan.era(trainer.version + 1)
    for version, groups in chain(first, coming):
        if version < trainer.version:
            continue
        if version >= plan.last:
            break
        if version > trainer.version:
            raise RunError(f"the journal lacks the batch of step {trainer.version + 1}; name steps after {version}")
        step = version + 1
        if plan.era(step) is not era:
            era = plan.era(step)
            trainer = _with_settings(trainer, era.recipe)
        batch = [group_of(head, payload) for head, payload in groups]
        oldest = era.recipe.replay.oldest_trained(version)
        statistics = trainer.train_step(batch, era.recipe.generators.sampling.temperature, oldest)
        if step >= plan.first:
            place = plan.recorded.get(step) if plan.compared else None
            difference = trainer.difference(place) if place is not None else None
            yield Retrained(step, statistics, staleness_of(batch, version, oldest), place is not None, difference)
    if trainer.version < plan.last:
        raise RunError(f"the journal ends with the batch of step {trainer.version}; --steps asks for {plan.last}")


def _begin(plan: Plan, say: Callable[[str], None]) -> Trainer:
    """A trainer at the checkpoint at or before the first step, or at the beginning of the run."""
    earlier = [step for step in plan.recorded if step < plan.first]
    start = max(earlier, default=0)
    recipe = plan.era(start + 1).recipe
    _take_threads(plan, recipe)
    trainer = Trainer(learner_config(recipe), plan.model, recipe.seed)
    if earlier:
        say(f"from the checkpoint of step {start}")
        trainer.load(plan.recorded[start])
    elif recipe.cold_start is not None:
        say("from the beginning: there is no checkpoint before the first step")
        stream = TaskStream(recipe.tasks, recipe.seed)
        cold_start(recipe, trainer, plan.model, stream, lambda text: say(f"cold start: {text}"))
    else:
        say("from the model that the run started from")
    return trainer


def _take_threads(plan: Plan, recipe: Recipe) -> None:
    """Where the recipe leaves the number of threads to the machine, take the run's: sums depend on it."""
    found = [read_meta(path).get("threads") for path in plan.recorded.values()]
    if not recipe.learner.threads and found and found[-1]:
        torch.set_num_threads(found[-1])


def _with_settings(trainer: Trainer, recipe: Recipe) -> Trainer:
    """The trainer with the settings of another recipe, as a run that resumes with them would be."""
    with tempfile.TemporaryDirectory(prefix="leeway-replay-") as folder:
        trainer.save(Path(folder, "state"), {})
        changed = Trainer(learner_config(recipe), trainer.model_path, recipe.seed)
        changed.load(Path(folder, "state"))
    return changed
