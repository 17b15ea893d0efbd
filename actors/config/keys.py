"""The keys of the configuration tree, and which of them a wrong one may have meant."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

#: How alike two names must be (0 to 1) for one to be offered in place of the other: `learnig_rate`, not `rate`.
_ALIKE = 0.75
_TAG = re.compile(r"\[\w+\]")


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key under a section, in the order of the tree, such as `model[tiny].layers`."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        for variant in sections(field.annotation):
            tag = next((f"[{value}]" for value in _tags(variant)), "")
            yield from rows(variant, f"{prefix}{name}{tag}.")


def sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field can hold: one, one of several, or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in sections(argument)]


def nearest(root: type[BaseModel], location: Sequence[str | int]) -> str | None:
    """The key that an unknown one is most likely to mean.

    Args:
        root: the tree.
        location: where the unknown key stands, as pydantic names it: tags of variants are parts of it.

    Returns:
        A dotted key: a sibling that is spelled almost alike, else the same name elsewhere in the tree, else whatever is
        spelled almost alike; None where nothing is.
    """
    *parents, unknown = (str(part) for part in location)
    siblings = [name for section in _at(root, parents) for name in section.model_fields]
    stem = ".".join(part for part in dotted(root, location).split(".")[:-1])
    if close := difflib.get_close_matches(unknown, siblings, n=1, cutoff=_ALIKE):
        return f"{stem}.{close[0]}" if stem else close[0]
    keys = [key for key, _ in rows(root)]
    if same := [key for key in keys if key.rpartition(".")[2] == unknown]:
        return max(same, key=lambda key: (_shared(key, stem), -len(key)))
    names = {key.rpartition(".")[2]: key for key in reversed(keys)}
    close = difflib.get_close_matches(unknown, names, n=1, cutoff=_ALIKE)
    return names[close[0]] if close else None


def variant(root: type[BaseModel], location: Sequence[str | int]) -> tuple[str, list[str]] | None:
    """(tag, keys) of the variant that a key stands in; None where its section has no variants."""
    parts = [str(part) for part in location]
    here = _at(root, parts[:-1])
    if len(here) != 1 or len(parts) < 2 or parts[-2] not in _tags(here[0]):
        return None
    return parts[-2], [name for name in here[0].model_fields if name not in ("source", "kind")]


def is_of_another_variant(root: type[BaseModel], location: Sequence[str | int], key: str) -> bool:
    """Whether a key, as `rows` names it, is one of the section at `location` had another variant been chosen."""
    stem = [part for part in dotted(root, location).split(".")[:-1] if not part.isdecimal()]
    return "[" in key and _TAG.sub("", key).split(".")[:-1] == stem


def dotted(root: type[BaseModel], location: Sequence[str | int]) -> str:
    """A location of pydantic's as the user wrote it: without the tags of variants and the names of types."""
    parts, here = [], [root]
    for part in location:
        if isinstance(part, int):
            parts.append(str(part))
        elif here and any(part in section.model_fields for section in here):
            parts.append(part)
            here = _at_field(here, part)
        elif tagged := [section for section in here if part in _tags(section)]:
            here = tagged
        elif here:
            parts.append(part)
            here = []
    return ".".join(parts)


def _at(root: type[BaseModel], path: Sequence[str]) -> list[type[BaseModel]]:
    """The sections that a path of names, indices and tags can lead to."""
    here = [root]
    for part in path:
        if any(part in section.model_fields for section in here):
            here = _at_field(here, part)
        elif tagged := [section for section in here if part in _tags(section)]:
            here = tagged
    return here


def _at_field(here: Sequence[type[BaseModel]], name: str) -> list[type[BaseModel]]:
    fields = (section.model_fields[name] for section in here if name in section.model_fields)
    return [section for field in fields for section in sections(field.annotation)]


def _tags(section: type[BaseModel]) -> list[str]:
    """The value of `source` or `kind` that chooses this section among several."""
    fields = (section.model_fields.get(name) for name in ("source", "kind"))
    return [str(get_args(field.annotation)[0]) for field in fields if field is not None]


def _shared(one: str, other: str) -> int:
    """How many leading names two dotted keys share, whatever their variants."""
    count = 0
    for a, b in zip(_TAG.sub("", one).split("."), other.split("."), strict=False):
        if a != b:
            break
        count += 1
    return count
