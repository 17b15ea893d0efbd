"""Where the model of a run's scorers is, and what is wrong with its files, before anything is started."""

import json
from pathlib import Path
from typing import Any

from actors.config.base import Location
from actors.config.model import FolderModel, TinyModel
from actors.config.recipe import Recipe
from actors.config.stages import PreferencesConfig
from actors.errors import LeewayError, RecipeError
from actors.models import tiny
from actors.models.tokenizer import load_tokenizer, require_same
from actors.storage.inputs import below, local
from actors.tasks import read_pairs
from actors.tasks.checks import can_read_templates

#: Where a run keeps the reward model that it has trained, in its run folder.
FOLDER = "reward-model"


def model_folder(config: PreferencesConfig, folder: Path) -> Path:
    """Where the scorers of the run in `folder` find the reward model; a folder of that name is always complete."""
    return folder / FOLDER if config.reward_model is None else local(config.reward_model)


def check_files(recipe: Recipe, folder: Path | None = None) -> None:
    """Look at the files of `preferences` and `distillation` before anything is started, for a new run or for one that
    resumes in `folder`.

    Raises RecipeError for what cannot be used.
    """
    if recipe.distillation is not None:
        _check_teacher(recipe, recipe.distillation.teacher)
    config = recipe.preferences
    trained = folder is not None and (folder / FOLDER).is_dir()
    if config is None or (config.pairs is not None and trained):
        return
    if config.pairs is not None:
        read_pairs(config.pairs, single=recipe.tasks.template != "chat")
    if config.base is not None:
        _configuration(config.base, "preferences.base")
    if config.reward_model is not None:
        found = _configuration(config.reward_model, "preferences.reward_model")
        kinds, labels = found.get("architectures") or [], found.get("id2label") or {}
        if len(labels) != 1 or not all(str(kind).endswith("ForSequenceClassification") for kind in kinds):
            raise RecipeError(
                f"preferences.reward_model: {config.reward_model} holds {', '.join(map(str, kinds)) or 'a model'}, "
                "which is no sequence classifier with one label; train one from `pairs`, with this model as `base`"
            )


def _check_teacher(recipe: Recipe, folder: Location) -> None:
    kinds = _configuration(folder, "distillation.teacher").get("architectures") or []
    if not all(str(kind).endswith(("ForCausalLM", "ForConditionalGeneration")) for kind in kinds):
        raise RecipeError(f"distillation.teacher: {folder} holds {', '.join(map(str, kinds))}, which writes no text")
    student = _student_tokenizer(recipe)
    if student is not None and isinstance(folder, Path):
        require_same(student, load_tokenizer(folder), folder)


def _student_tokenizer(recipe: Recipe) -> Any:
    """None where it cannot be had before the model is fetched or made: the scorers look at it, too."""
    if not can_read_templates():
        return None
    if isinstance(recipe.model, TinyModel):
        return tiny.tokenizer(recipe.model.max_length)
    if isinstance(recipe.model, FolderModel) and recipe.model.folder is not None:
        return load_tokenizer(recipe.model.folder)
    return None


def _configuration(folder: Location, key: str) -> dict[str, Any]:
    try:
        found = json.loads(local(below(folder, "config.json")).read_text())
    except LeewayError as error:
        raise RecipeError(f"{key}: {error}") from error
    except (OSError, ValueError) as error:
        raise RecipeError(f"{key}: {folder} holds no config.json that can be read ({error})") from error
    return dict(found)
