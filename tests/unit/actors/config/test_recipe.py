"""The tree of a recipe: frozen, documented, and without keys that contradict each other."""

from pathlib import Path

import pytest

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.errors import RecipeError

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def test_the_tree_is_frozen() -> None:
    recipe = load(QUICKSTART)
    with pytest.raises(Exception, match="frozen"):
        recipe.steps = 5  # type: ignore[misc]


def test_every_field_is_documented() -> None:
    missing: list[str] = []

    def walk(schema: dict, path: str) -> None:
        for name, field in schema.get("properties", {}).items():
            described = "description" in field
            constant = "const" in field
            if not (described or constant):
                missing.append(f"{path}.{name}")

    schema = Recipe.model_json_schema()
    walk(schema, "recipe")
    for name, definition in schema["$defs"].items():
        walk(definition, name)
    assert missing == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["learner.lora.broadcast=adapters", "weights.backend=nccl", "generators.gpus=1", "learner.gpus=1"],
            "adapters use gloo",
        ),
        (["cold_start.supervised.patience=2"], "needs held_out above 0"),
        (["learner.ranks=2"], "generates with the whole model"),
        (["preferences.weight=0.5"], "either pairs"),
        (["preferences.pairs=a.jsonl", "preferences.reward_model=b"], "either pairs"),
        (["preferences.reward_model=b", "preferences.base=c", "preferences.held_out=9"], "base and held_out would be"),
        (["preferences.reward_model=b", "preferences.supervised.epochs=3"], "supervised would be ignored"),
        (["preferences.pairs=a.jsonl", "preferences.weight=0"], r"preferences\.weight: .* greater than 0"),
        (["preferences.pairs=a.jsonl", "preferences.clip=0"], r"preferences\.clip: .* greater than 0"),
        (["preferences.pairs=a.jsonl", "replay.group_size=1"], "set 2 or more"),
        (["rewards.format=none"], r"rewards: weights\.format needs format"),
        (["rewards.weights.language=1"], r"weights\.language needs language"),
        (["rewards.weights.overlong=1"], r"weights\.overlong needs overlong_max_tokens"),
        (["rewards.weights.repetition=1"], r"weights\.repetition needs repetition_ngram"),
        (["learner.device=cuda"], r"learner\.device: cuda needs learner\.gpus"),
    ],
)
def test_what_would_be_ignored_or_count_twice_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load(QUICKSTART, overrides)
