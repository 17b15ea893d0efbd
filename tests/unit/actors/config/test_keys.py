"""The keys of a tree, and which of them a wrong one may have meant."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from actors.config.keys import dotted, nearest, rows


class Rate(BaseModel):
    learning_rate: float = 1.0
    warmup: int = 0


class Big(BaseModel):
    kind: Literal["big"]
    width: int = 1


class Small(BaseModel):
    kind: Literal["small"]
    depth: int = 1


class Tree(BaseModel):
    first: Rate = Rate()
    second: Rate = Rate()
    model: Annotated[Big | Small, Field(discriminator="kind")]
    many: list[Small] = []
    either: Literal["word"] | int = "word"


def test_every_key_is_listed_with_the_variant_it_belongs_to() -> None:
    assert [key for key, _ in rows(Tree)] == [
        "first",
        "first.learning_rate",
        "first.warmup",
        "second",
        "second.learning_rate",
        "second.warmup",
        "model",
        "model[big].kind",
        "model[big].width",
        "model[small].kind",
        "model[small].depth",
        "many",
        "many[small].kind",
        "many[small].depth",
        "either",
    ]


@pytest.mark.parametrize(
    ("location", "key"),
    [
        (("first", "learning_rate"), "first.learning_rate"),
        (("model", "big", "width"), "model.width"),
        (("many", 3, "depth"), "many.3.depth"),
        (("either", "literal['word']"), "either"),
        (("model", "big", "no_such_key"), "model.no_such_key"),
        ((), ""),
    ],
)
def test_a_location_is_shown_as_it_was_written(location: tuple[str | int, ...], key: str) -> None:
    assert dotted(Tree, location) == key


@pytest.mark.parametrize(
    ("location", "key"),
    [
        (("second", "learnin_rate"), "second.learning_rate"),
        (("model", "big", "widht"), "model.width"),
        (("model", "big", "depth"), "model[small].depth"),
        (("many", 0, "dept"), "many.0.depth"),
        (("warmup",), "first.warmup"),
        (("model", "big", "warmups"), "first.warmup"),
        (("xyzzy",), None),
    ],
)
def test_the_nearest_key_is_a_sibling_or_else_the_same_name_elsewhere(
    location: tuple[str | int, ...], key: str | None
) -> None:
    assert nearest(Tree, location) == key
