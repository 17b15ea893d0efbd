"""How a recipe is read: the file, what `-s` changes in it, and one line that says what is wrong with either."""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from actors.config import validation, yaml_core
from actors.config.base import Section
from actors.config.model import FolderModel
from actors.config.recipe import Recipe
from actors.config.tasks import DatasetSource
from actors.config.validation import Problem, short
from actors.errors import RecipeError
from learner.config import LearnerConfig

#: Name of the resolved recipe in a run folder, by which the folder is known.
RECIPE = "recipe.yaml"
#: The key by which a file is known as a pipeline, see `actors.config.pipeline`.
STAGES = "stages"
#: Problems that are named; of further ones only the number is.
_NAMED = 3
#: An IPv6 address as URLs write it, which YAML cannot read.
_BRACKETED = re.compile(r"\[[0-9a-fA-F:.]*:[0-9a-fA-F:.]*\]")
#: An entry of a list as Python writes it.
_INDEX = re.compile(r"\[(\d+)\]")

Root = TypeVar("Root", bound=Section)


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with overrides such as `learner.optimizer.learning_rate=1e-5`.

    Paths in it are relative to the current directory, and absolute in what is returned: whoever reads the resolved
    recipe, another process or a run that is resumed from elsewhere, finds the same files.

    Raises:
        RecipeError: one line that names the file or the override, the key and what is wrong with it.
    """
    tree = read(path)
    if STAGES in tree:
        raise RecipeError(f"{path}: is a pipeline (it has {STAGES}), and a recipe of one run is asked for here")
    changed = override(tree, overrides)
    recipe: Recipe = absolute(parse(tree, str(path), changed), Path.cwd())
    return recipe


def read(path: Path) -> dict[str, Any]:
    """The tree of mappings in a YAML file, whatever its keys.

    Raises:
        RecipeError: one line that names the file and what is wrong with it.
    """
    try:
        tree = yaml_core.read(path.read_text(encoding="utf-8"))
    except IsADirectoryError as error:
        raise RecipeError(f"{path}: is a directory; name a recipe (a YAML file)") from error
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}: line {line} is not UTF-8 ({error.reason})") from error
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys such as name, model and tasks")
    if wrong := [key for key in tree if not isinstance(key, str)]:
        raise RecipeError(f"{path}: {wrong[0]}: keys are words")
    return tree


def override(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, str]:
    """Change a tree as `-s` asks; returns each override by the key that it sets.

    Raises:
        RecipeError: one line that names the override and what is wrong with it.
    """
    return {_override(tree, text): text for text in overrides}


def parse(tree: dict[str, Any], origin: str, changed: Mapping[str, str] | None = None) -> Recipe:
    """The recipe in a tree of mappings. See `parse_as`."""
    return parse_as(Recipe, tree, origin, changed)


def parse_as(root: type[Root], tree: dict[str, Any], origin: str, changed: Mapping[str, str] | None = None) -> Root:
    """The document of a kind in a tree of mappings.

    Args:
        root: its kind.
        tree: what a YAML file holds, or what `model_dump` gave.
        origin: the name of the file in messages.
        changed: the overrides that went into the tree, by the key that each of them sets.

    Raises:
        RecipeError: one line that names the first wrong keys, what may stand there and what was given.
    """
    try:
        document = root.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(_one_line(validation.problems(error, root), origin, changed or {})) from error
    if wrong := validation.misplaced_truths(tree, document):
        raise RecipeError(_one_line(wrong, origin, changed or {}))
    return document


def dump(recipe: Recipe) -> str:
    """The resolved tree as YAML; reading it again gives the same recipe."""
    return yaml_core.write(recipe.model_dump(mode="json"))


def _one_line(problems: Sequence[Problem], origin: str, changed: Mapping[str, str]) -> str:
    """The first problems, each after the file or the override that it comes from, where that differs from the last."""
    parts: list[str] = []
    last = ""
    for key, text, unknown in problems[:_NAMED]:
        source = origin
        for name, override in changed.items():
            # an override of a section that does not exist made that section
            if key == name or key.startswith(f"{name}.") or (unknown and name.startswith(f"{key}.")):
                source = f"-s {short(override)}"
        parts.append(": ".join(part for part in (source if source != last else "", key, text) if part))
        last = source
    more = len(problems) - len(parts)
    return "; ".join(parts) + (f" (and {more} more)" if more else "")


def _override(tree: dict[str, Any], text: str) -> str:
    """Change one key of a tree; returns the key, as messages name it: entries of lists by their numbers."""
    key, equals, value = text.partition("=")
    if (dotted := _INDEX.sub(r".\1", key)) != key:
        raise RecipeError(f"-s {short(text)}: write {dotted}")
    names = key.split(".")
    if not equals or not all(names):
        raise RecipeError(f"-s {short(text)}: write key=value, for example -s replay.max_staleness=0")
    try:
        new = yaml_core.read(value)
    except ValueError as error:
        if _BRACKETED.fullmatch(value.strip()):
            raise RecipeError(f"-s {short(text)}: write the address without brackets") from error
        raise RecipeError(f"-s {short(text)}: {error}") from error
    node: Any = tree
    found: list[str] = []
    for name in names[:-1]:
        index = _index(node, name, found, text)
        found.append(str(index))
        child = node.get(index) if isinstance(node, dict) else node[index]
        # a copy, because YAML's aliases make one object stand in several places
        node[index] = {} if child is None else copy.copy(child)
        node = node[index]
    index = _index(node, names[-1], found, text)
    node[index] = new
    return ".".join([*found, str(index)])


def _index(node: Any, name: str, path: Sequence[str], text: str) -> str | int:
    """The key or index that `name` stands for in a node of the tree, which `path` leads to."""
    if isinstance(node, dict):
        return name
    if not isinstance(node, list):
        raise RecipeError(f"-s {short(text)}: {'.'.join(path)} is not a section")
    called = [entry.get("name") if isinstance(entry, dict) else None for entry in node]
    if name in called:
        return called.index(name)
    entries = "1 entry" if len(node) == 1 else f"{len(node)} entries"
    if not name.isdecimal() or int(name) >= len(node):
        raise RecipeError(f"-s {short(text)}: {'.'.join(path)} has {entries}; name one by number, from 0")
    return int(name)


def absolute(value: Any, base: Path) -> Any:
    """`value`, a part of a tree, with every path in it absolute; what holds none is returned as it is."""
    if isinstance(value, Path):
        return base / value.expanduser()
    if isinstance(value, FolderModel):
        # where there is no such folder it is a name on the hub
        return value.model_copy(update={"path": str(base / value.folder)}) if value.folder else value
    if isinstance(value, DatasetSource) and Path(value.name).expanduser().exists():
        return value.model_copy(update={"name": str(base / Path(value.name).expanduser())})  # a copy of a data set
    if isinstance(value, list):
        return [absolute(item, base) for item in value]
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        moved = {name: absolute(field, base) for name, field in fields.items()}
        if isinstance(value, LearnerConfig) and value.inspection_folder is not None:
            moved["inspection_folder"] = str(base / Path(value.inspection_folder).expanduser())
        return value.model_copy(update=moved)
    return value
