"""Where a run's reward model is, and what is wrong with the files of `preferences`, before anything is started."""

import json
from pathlib import Path
from typing import Any

from actors.config.base import Location
from actors.config.recipe import Recipe
from actors.config.stages import PreferencesConfig
from actors.errors import LeewayError, RecipeError
from actors.storage.inputs import below, local
from actors.tasks import read_pairs

#: Where a run keeps the reward model that it has trained, in its run folder.
FOLDER = "reward-model"


def model_folder(config: PreferencesConfig, folder: Path) -> Path:
    """Where the scorers of the run in `folder` find the reward model; a folder of that name is always complete."""
    return folder / FOLDER if config.reward_model is None else local(config.reward_model)


def check_files(recipe: Recipe, folder: Path | None = None) -> None:
    """Look at the files of the section before anything is started, for a new run or for one that resumes in `folder`.

    Raises RecipeError for what cannot be used.
    """
    config = recipe.preferences
    trained = folder is not None and (folder / FOLDER).is_dir()
    if config is None or (config.pairs is not None and trained):
        return
    if config.pairs is not None:
        read_pairs(config.pairs, single=recipe.tasks.template != "chat")
    if config.base is not None:
        _configuration(config.base, "base")
    if config.reward_model is not None:
        found = _configuration(config.reward_model, "reward_model")
        kinds, labels = found.get("architectures") or [], found.get("id2label") or {}
        if len(labels) != 1 or not all(str(kind).endswith("ForSequenceClassification") for kind in kinds):
            raise RecipeError(
                f"preferences.reward_model: {config.reward_model} holds {', '.join(map(str, kinds)) or 'a model'}, "
                "which is no sequence classifier with one label; train one from `pairs`, with this model as `base`"
            )


def _configuration(folder: Location, key: str) -> dict[str, Any]:
    try:
        found = json.loads(local(below(folder, "config.json")).read_text())
    except LeewayError as error:
        raise RecipeError(f"preferences.{key}: {error}") from error
    except (OSError, ValueError) as error:
        raise RecipeError(f"preferences.{key}: {folder} holds no config.json that can be read ({error})") from error
    return dict(found)
