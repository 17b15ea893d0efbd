"""What pydantic finds wrong with a recipe, in a recipe's words: the key, what may stand there, and what was given."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from actors.config import keys
from actors.config.recipe import Recipe

#: What is quoted of a wrong value (characters).
_QUOTED = 60
_WANTED = {
    "path_type": "must be a path",
    "model_type": "must be a section with keys of its own",
    "model_attributes_type": "must be a section with keys of its own",
    "dict_type": "must be a section with keys of its own",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "string_type": "must be text",
    "string_pattern_mismatch": "must be lower-case letters, digits, '.', '_' and '-', a letter or digit first",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
}


class Problem(NamedTuple):
    """What is wrong with one dotted key, and whether it is that there is no such key."""

    key: str
    text: str
    unknown: bool


def problems(error: ValidationError, root: type[BaseModel] = Recipe) -> list[Problem]:
    """What is wrong with each key, those that do not exist first.

    A missing key is left out where an unknown one is probably its misspelling.

    Args:
        error: what pydantic raised.
        root: the kind of document that it was asked to read.
    """
    found: dict[str, list[str]] = {}
    unknown, meant = set(), set()
    for each in error.errors(include_url=False):
        key = _key(each, root)
        found.setdefault(key, []).append(_problem(each, root))
        if each["type"] == "extra_forbidden":
            unknown.add(key)
            meant.add(keys.nearest(root, each["loc"]))
    listed = [
        Problem(key, _either(texts), key in unknown)
        for key, texts in found.items()
        if not (key in meant and texts == ["is missing"])
    ]
    return sorted(listed, key=lambda problem: not problem.unknown)


def misplaced_truths(given: Any, model: Any, path: str = "") -> list[Problem]:
    """The `true` and `false` that pydantic took for the numbers 1 and 0."""
    if isinstance(given, bool) and isinstance(model, int | float) and not isinstance(model, bool):
        return [Problem(path, f"must be a number, not {quoted(given)}", unknown=False)]
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(given, dict) and isinstance(model, BaseModel):
        pairs = [(name, value, getattr(model, name)) for name, value in given.items()]
    elif isinstance(given, list) and isinstance(model, list | tuple):
        pairs = [(str(index), *both) for index, both in enumerate(zip(given, model, strict=True))]
    stem = f"{path}." if path else ""
    return [found for name, one, other in pairs for found in misplaced_truths(one, other, stem + name)]


def quoted(value: Any) -> str:
    """A value as YAML writes it, where that differs from Python."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else short(repr(value))


def short(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"


def _key(error: Mapping[str, Any], root: type[BaseModel]) -> str:
    """The dotted key that an error of pydantic's is about."""
    location = [part for part in error["loc"] if part != "[key]"]
    key = keys.dotted(root, location)
    if error["type"].startswith("union_tag_"):
        return f"{key}.{error['ctx']['discriminator']}".replace("'", "")
    return key


def _problem(error: Mapping[str, Any], root: type[BaseModel]) -> str:
    """What pydantic found: what may stand there, and what was given."""
    context, message = error.get("ctx", {}), str(error["msg"])
    if "[key]" in error["loc"]:
        return "keys are words"
    match error["type"]:
        case "missing" | "union_tag_not_found":
            return "is missing"
        case "extra_forbidden":
            return _unknown(error["loc"], root)
        case "invalid_key":
            return "keys are words"
        case "union_tag_invalid":
            return f"must be one of {context['expected_tags']}, not {context['tag']!r}"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "too_short":
            return f"must have {context['min_length']} or more entries, not {context['actual_length']}"
        case "too_long":
            return f"must have {context['max_length']} entries at most, not {context['actual_length']}"
    wanted = message.split(", unable to ")[0].replace("Input should", "must", 1)
    return f"{_WANTED.get(error['type'], wanted)}, not {quoted(error['input'])}"


def _unknown(location: Sequence[str | int], root: type[BaseModel]) -> str:
    near = keys.nearest(root, location)
    chosen = keys.variant(root, location)
    if chosen and (near is None or keys.is_of_another_variant(root, location, near)):
        tag, names = chosen
        return f"there is no such key; `{tag}` has {', '.join(names)}"
    return "there is no such key" + (f"; did you mean {near}?" if near else "")


def _either(alternatives: Sequence[str]) -> str:
    """The problems that the variants of one key have with what was given, as one: `must be A or B, not C`."""
    *wanted, last = dict.fromkeys(alternatives)
    return " or ".join([*(text.rpartition(", not ")[0] for text in wanted), last.removeprefix("must " * bool(wanted))])
