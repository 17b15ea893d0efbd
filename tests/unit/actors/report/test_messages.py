"""Every setting that a message names is a key of the recipe."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import actors.report
from actors.config.recipe import Recipe

REPORT = Path(actors.report.__path__[0])
MODULES = ("health", "outcome", "display", "html", "sections", "statistics")
DOTTED = re.compile(r"\b[a-z]\w*(?:\.[a-z]\w*)+\b")
FILES = (".html", ".json", ".jsonl", ".log")


def keys_of(annotation: Any, prefix: str = "") -> Iterator[str]:
    """The keys under a field of this type, through unions, lists and what `Annotated` wraps."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield prefix + name
            yield from keys_of(field.annotation, f"{prefix}{name}.")
    for inner in get_args(annotation):
        yield from keys_of(inner, prefix)


def messages(source: str) -> Iterator[str]:
    """Every text of a module but its docstrings."""
    tree = ast.parse(source)
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value


def named(module: str) -> set[str]:
    found = (key for text in messages((REPORT / f"{module}.py").read_text()) for key in DOTTED.findall(text))
    return {key for key in found if not key.endswith(FILES)}


@pytest.mark.parametrize("module", MODULES)
def test_every_key_that_a_message_names_exists(module: str) -> None:
    assert named(module) - set(keys_of(Recipe)) == set()


def test_messages_name_keys() -> None:
    assert {"learner.optimizer.learning_rate", "generators.count", "rewards.weights.overlong"} <= named("health")
