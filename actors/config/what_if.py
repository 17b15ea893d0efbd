"""The recipe of a run whose steps are trained again, perhaps with other settings of the learner."""

import json
from collections.abc import Sequence
from pathlib import Path

from actors.config import resuming
from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.errors import RecipeError
from learner.objective import PRESETS, ObjectiveConfig

OBJECTIVE = "learner.objective"
NAME = f"{OBJECTIVE}.name"


def what_if(path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe in `path` with overrides of the learner.

    Another objective brings along what its name sets: a run's recipe.yaml holds every part of the one before.

    Raises:
        RecipeError: an override is wrong, would be ignored, or does not fit the run's checkpoints.
    """
    if others := [text for text in overrides if not text.startswith("learner.")]:
        raise RecipeError(f"-s {others[0]}: the batches are what they are; what can change is below learner")
    before, after = load(path), load(path, overrides)
    refused = [line for line in resuming.refused(before, after) if not line.startswith(NAME)]
    if refused:
        raise RecipeError(f"{path}: {'; '.join(refused)}")
    return load(path, [*_parts(before, after, overrides), *overrides])


def _parts(before: Recipe, after: Recipe, overrides: Sequence[str]) -> list[str]:
    """Overrides for the parts of an objective that are as the earlier one's name set them."""
    was, now = before.learner.objective, after.learner.objective
    if was.name == now.name:
        return []
    earlier, later = (ObjectiveConfig(name=objective.name) for objective in (was, now))
    given = {text.partition("=")[0] for text in overrides}
    names = sorted({*PRESETS[was.name], *PRESETS[now.name]})
    return [
        f"{OBJECTIVE}.{name}={json.dumps(getattr(later, name))}"
        for name in names
        if getattr(was, name) == getattr(earlier, name) and f"{OBJECTIVE}.{name}" not in given
    ]
