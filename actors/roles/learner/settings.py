"""What the trainer of a run is told: the recipe's learner, with what other sections of the recipe say about it."""

from pathlib import Path

from actors.config.recipe import Recipe
from learner.config import LearnerConfig


def learner_config(recipe: Recipe, folder: Path | None = None) -> LearnerConfig:
    """The learner's configuration, with the weights of the reward's parts where the recipe names no others for the
    advantages.

    Args:
        recipe: of the run.
        folder: the run folder, in which a batch to inspect is saved where the recipe names no place.
    """
    learner = recipe.learner
    if learner.objective.part_weights is None:
        objective = learner.objective.model_copy(update={"part_weights": recipe.part_weights})
        learner = learner.model_copy(update={"objective": objective})
    if learner.inspection_folder is None and folder is not None:
        learner = learner.model_copy(update={"inspection_folder": str(folder / "inspection")})
    return learner
