"""What can be known to be wrong with tasks before a process starts: lines of files, the split, the chat template."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from actors.config.model import FolderModel
from actors.config.recipe import Recipe
from actors.config.tasks import AdditionSource, Gsm8kSource, JsonlSource, ReasoningGymSource
from actors.errors import RecipeError
from actors.tasks.sources import open_source
from actors.tasks.stream import TaskStream
from actors.tasks.task import Task
from actors.tasks.templates import Renderer
from actors.tasks.traces import file_traces

_LOCAL = (AdditionSource, Gsm8kSource, JsonlSource)
_PROBE = "a system message of Leeway's own"


def problems(recipe: Recipe, *, resumed: bool = False) -> list[str]:
    """What is wrong with the lines of the recipe's files and with its chat template, each as one line.

    Files that cannot be opened are `actors.config.checks`' to name. Sources that need the network are not looked at,
    and of a reasoning_gym source only the family and its options: some families take minutes to generate a split.

    Args:
        recipe: with absolute paths.
        resumed: the run resumes from a checkpoint, so that its cold start is behind it.
    """
    try:
        _read(recipe)
        found = list(_template(recipe))
        if not found and all(isinstance(source, _LOCAL) for source in recipe.tasks.sources):
            stream = TaskStream(recipe.tasks, recipe.seed)
            if recipe.cold_start is not None and not resumed and isinstance(recipe.cold_start.traces, Path):
                for _ in file_traces(recipe.cold_start.traces, stream):
                    pass
    except RecipeError as error:
        return [str(error)]
    return found


def unchecked(recipe: Recipe) -> Iterator[str]:
    """What cannot be looked at on this machine, for want of a package."""
    if looks_at_template(recipe) and not can_read_templates():
        yield "the model's chat template, since transformers is not installed here"
    if any(isinstance(source, ReasoningGymSource) for source in recipe.tasks.sources) and not _has_gym():
        yield "the family and options of reasoning_gym, since reasoning-gym is not installed here"


def looks_at_template(recipe: Recipe) -> bool:
    """Whether the chat template of a local model is a part of what is checked, for which transformers is needed."""
    chat = recipe.tasks.template == "chat"
    return chat and isinstance(recipe.model, FolderModel) and recipe.model.folder is not None


def can_read_templates() -> bool:
    """Whether transformers is installed here."""
    return find_spec("transformers") is not None


def _has_gym() -> bool:
    return find_spec("reasoning_gym") is not None


def _read(recipe: Recipe) -> None:
    for source in recipe.tasks.sources:
        if isinstance(source, ReasoningGymSource) and _has_gym():
            open_source(source)
        if isinstance(source, Gsm8kSource | JsonlSource):
            open_source(source, single=recipe.tasks.template != "chat")


def _template(recipe: Recipe) -> Iterator[str]:
    if not (looks_at_template(recipe) and can_read_templates()):
        return
    assert isinstance(recipe.model, FolderModel)
    tokenizer = _tokenizer(Path(recipe.model.path))
    renderer = Renderer(recipe.tasks, tokenizer)
    if recipe.tasks.system is None:
        return
    task = Task("", (("system", _PROBE), ("user", "1+1=")), "none", {})
    try:
        shown = _PROBE in renderer.text(task)
    except Exception as error:  # noqa: BLE001 - a template is a program of its author's, and may raise anything
        yield f"tasks.system: the chat template of {recipe.model.path} refuses a system message ({error}); leave it out"
        return
    if not shown:
        yield f"tasks.system: the chat template of {recipe.model.path} shows no system message; leave it out"


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise RecipeError(f"model.path: {folder} has no tokenizer that can be loaded ({str(error)[:200]})") from error
