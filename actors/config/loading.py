"""How a recipe is read: the file, what `-s` changes in it, and one line that says what is wrong with either."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from actors.config import keys, yaml_core
from actors.config.model import FolderModel
from actors.config.recipe import Recipe
from actors.errors import RecipeError
from learner.config import LearnerConfig

#: What is quoted of a wrong value (characters).
_QUOTED = 60


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with overrides such as `learner.optimizer.learning_rate=1e-5`.

    Paths in it are relative to the current directory, and absolute in what is returned: whoever reads the resolved
    recipe, another process or a run that is resumed from elsewhere, finds the same files.

    Raises:
        RecipeError: one line that names the file or the override, the key and what is wrong with it.
    """
    try:
        tree = yaml_core.read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise RecipeError(f"{path}: a recipe is a mapping of keys such as name, model and tasks")
    changed = {_override(tree, text): text for text in overrides}
    recipe: Recipe = _absolute(parse(tree, str(path), changed), Path.cwd())
    return recipe


def parse(tree: dict[str, Any], origin: str, changed: Mapping[str, str] | None = None) -> Recipe:
    """The recipe in a tree of mappings.

    Args:
        tree: what a YAML file holds, or what `Recipe.model_dump` gave.
        origin: the name of the file in messages.
        changed: the overrides that went into the tree, by the key that each of them sets.

    Raises:
        RecipeError: one line that names the first wrong key, what may stand there and what was given.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        problems: dict[str, list[str]] = {}
        for found in error.errors(include_url=False):
            problems.setdefault(_key(found), []).append(_problem(found))
        (key, alternatives), *others = problems.items()
        for name, text in (changed or {}).items():
            if key == name or key.startswith(f"{name}."):
                origin = f"-s {_short(text)}"
        more = f" (and {len(others)} more)" if others else ""
        place = f"{origin}: {key}" if key else origin
        raise RecipeError(f"{place}: {_either(alternatives)}{more}") from error


def dump(recipe: Recipe) -> str:
    """The resolved tree as YAML; reading it again gives the same recipe."""
    return yaml_core.write(recipe.model_dump(mode="json"))


def _key(error: Mapping[str, Any]) -> str:
    """The dotted key that an error of pydantic's is about."""
    key = keys.dotted(Recipe, error["loc"])
    if error["type"].startswith("union_tag_"):
        return f"{key}.{error['ctx']['discriminator']}".replace("'", "")
    return key


def _problem(error: Mapping[str, Any]) -> str:
    """What pydantic found: what may stand there, and what was given."""
    context, message = error.get("ctx", {}), str(error["msg"])
    match error["type"]:
        case "missing" | "union_tag_not_found":
            return "is missing"
        case "extra_forbidden":
            near = keys.nearest(Recipe, error["loc"])
            return "there is no such key" + (f"; did you mean {near}?" if near else "")
        case "union_tag_invalid":
            return f"must be one of {context['expected_tags']}, not {context['tag']!r}"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "too_short" | "too_long":
            return message
        case "path_type":
            message = "must be a path"
        case "model_type" | "model_attributes_type":
            message = "must be a section with keys of its own"
    wanted = message.split(", unable to parse")[0].replace("Input should", "must", 1)
    return f"{wanted}, not {_quoted(error['input'])}"


def _either(alternatives: Sequence[str]) -> str:
    """The problems that the variants of one key have with what was given, as one: `must be A or B, not C`."""
    *wanted, last = dict.fromkeys(alternatives)
    return " or ".join([*(text.rpartition(", not ")[0] for text in wanted), last.removeprefix("must " * bool(wanted))])


def _quoted(value: Any) -> str:
    """A value as YAML writes it, where that differs from Python."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else _short(repr(value))


def _override(tree: dict[str, Any], text: str) -> str:
    """Change one key of a tree; returns the key, as messages name it."""
    key, equals, value = text.partition("=")
    names = key.split(".")
    if not equals or not all(names):
        raise RecipeError(f"-s {_short(text)}: write key=value, for example -s replay.max_staleness=0")
    try:
        new = yaml_core.read(value)
    except ValueError as error:
        raise RecipeError(f"-s {_short(text)}: {error}") from error
    node: Any = tree
    for place, name in enumerate(names[:-1]):
        index = _index(node, name, names[:place], text)
        child = node.get(index) if isinstance(node, dict) else node[index]
        # a copy, because YAML's aliases make one object stand in several places
        node[index] = {} if child is None else copy.copy(child)
        node = node[index]
    node[_index(node, names[-1], names[:-1], text)] = new
    return key


def _index(node: Any, name: str, path: Sequence[str], text: str) -> str | int:
    """The key or index that `name` stands for in a node of the tree, which `path` leads to."""
    if isinstance(node, dict):
        return name
    if not isinstance(node, list):
        raise RecipeError(f"-s {_short(text)}: {'.'.join(path)} is not a section")
    if not name.isdecimal() or int(name) >= len(node):
        raise RecipeError(f"-s {_short(text)}: {'.'.join(path)} has {len(node)} entries; name one by number, from 0")
    return int(name)


def _short(text: str) -> str:
    return text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"


def _absolute(value: Any, base: Path) -> Any:
    """`value` with every path in it absolute; what holds none is returned as it is."""
    if isinstance(value, Path):
        return base / value.expanduser()
    if isinstance(value, FolderModel):
        # where there is no such folder it is a name on the hub
        return value.model_copy(update={"path": str(base / value.folder)}) if value.folder else value
    if isinstance(value, list):
        return [_absolute(item, base) for item in value]
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        moved = {name: _absolute(field, base) for name, field in fields.items()}
        if isinstance(value, LearnerConfig) and value.inspection_folder is not None:
            moved["inspection_folder"] = str(base / Path(value.inspection_folder).expanduser())
        return value.model_copy(update=moved)
    return value
