"""What can be known to be wrong with tasks before a process starts: lines of files, the split, the chat template."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from actors.config.base import Location
from actors.config.model import FolderModel
from actors.config.recipe import Recipe
from actors.config.tasks import AdditionSource, CodeSource, GpqaSource, Gsm8kSource, JsonlSource, ReasoningGymSource
from actors.errors import RecipeError
from actors.models.tokenizer import load_tokenizer
from actors.tasks.records import read_records
from actors.tasks.sources import Dataset, open_source
from actors.tasks.stream import TaskStream
from actors.tasks.task import Task
from actors.tasks.templates import Renderer, notes
from actors.tasks.traces import file_traces

_LOCAL = (AdditionSource, CodeSource, GpqaSource, Gsm8kSource, JsonlSource)


def problems(recipe: Recipe, *, resumed: bool = False) -> list[str]:
    """What is wrong with the lines of the recipe's files and with its chat template, each as one line.

    Files that cannot be opened are `actors.config.checks`' to name. Sources that need the network are not looked at,
    and of a reasoning_gym source only the family and its options: some families take minutes to generate a split.

    Args:
        recipe: with absolute paths.
        resumed: the run resumes from a checkpoint, so that its cold start is behind it.
    """
    try:
        files = list(_opened(recipe))
        tokenizer = _tokenizer(recipe)
        known = tokenizer is not None or recipe.tasks.template != "chat"
        renderer = Renderer(recipe.tasks, tokenizer) if known else None
        found = [problem for path, tasks in files for problem in _prompts(path, tasks, renderer)]
        if not found and all(isinstance(source, _LOCAL) for source in recipe.tasks.sources):
            stream = TaskStream(recipe.tasks, recipe.seed)
            if recipe.cold_start is not None and not resumed and recipe.cold_start.traces != "addition":
                found += _traces(recipe.cold_start.traces, stream, renderer, with_ends=tokenizer is not None)
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


def _opened(recipe: Recipe) -> Iterator[tuple[Location, Dataset]]:
    """The files of tasks and what is in them. Raises RecipeError for a source that cannot be read."""
    for source in recipe.tasks.sources:
        if isinstance(source, CodeSource | GpqaSource) or (isinstance(source, ReasoningGymSource) and _has_gym()):
            open_source(source)
        if isinstance(source, Gsm8kSource | JsonlSource):
            yield source.path, open_source(source, single=recipe.tasks.template != "chat")


def unexpected(recipe: Recipe) -> list[str]:
    """What the chat template of a local model does that the recipe's author may not expect, each as one line."""
    tokenizer = _tokenizer(recipe)
    return [] if tokenizer is None else list(notes(recipe.tasks, tokenizer))


def _prompts(path: Location, tasks: Dataset, renderer: Renderer | None) -> Iterator[str]:
    """Lines that cannot be rendered, the first with every sequence of roles."""
    if renderer is None:
        return
    for index, problem in _refused(renderer, (tasks[index] for index in range(len(tasks)))):
        place, _ = next(islice(read_records(path), index, None))
        yield f"{place}: {problem}"


def _traces(path: Location, stream: TaskStream, renderer: Renderer | None, *, with_ends: bool) -> Iterator[str]:
    """What is wrong with a file of traces. Raises RecipeError for a line that cannot be read."""
    traces = list(file_traces(path, stream))
    if renderer is None:
        return
    for _, problem in _refused(renderer, (task for task, _ in traces)):
        yield f"{path}: {problem}"
    for _, answer in traces if with_ends else ():
        try:
            renderer.turn(answer)
        except RecipeError as error:
            yield f"{path}: {error}"
            return


def _refused(renderer: Renderer, tasks: Iterable[Task]) -> Iterator[tuple[int, str]]:
    """(position, reason) of tasks that cannot be rendered, the first of every sequence of roles."""
    seen: set[tuple[str, ...]] = set()
    for index, task in enumerate(tasks):
        roles = tuple(role for role, _ in task.messages)
        if roles in seen:
            continue
        seen.add(roles)
        try:
            renderer.text(task)
        except RecipeError as error:
            yield index, str(error)


def _tokenizer(recipe: Recipe) -> Any:
    """That of a local model; None where there is none to be read before the model is made or fetched."""
    if not (isinstance(recipe.model, FolderModel) and recipe.model.folder is not None and can_read_templates()):
        return None
    return _loaded(recipe.model.folder)


@lru_cache(1)
def _loaded(folder: Path) -> Any:
    """It takes seconds, and more than one check asks for it."""
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()  # type: ignore[no-untyped-call]
    return load_tokenizer(folder)
