"""A recipe is read exactly, and what is wrong with it is said in one line."""

from pathlib import Path

import pytest
import yaml

from actors.config.recipe import Recipe, dump, load, parse
from actors.errors import RecipeError

RECIPES = sorted((Path(__file__).parents[4] / "recipes").glob("*.yaml"))
QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_whole_and_survives_a_round_trip(path: Path) -> None:
    recipe = load(path)
    assert parse(yaml.safe_load(dump(recipe)), "again") == recipe


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("learner.optimizer.learning_rate=fast", "learner.optimizer.learning_rate"),
        ("replay.max_stalenes=3", "replay.max_stalenes"),
        ("replay.max_staleness=-1", "replay.max_staleness"),
        ("steps", "write key=value"),
        ("steps.more=1", "steps is not a section"),
        ("weights.backend=nccl", "nccl needs generators.gpus"),
        ("name=../../etc", "name"),
        ("learner.objective.name=ppo", "learner.objective.name"),
    ],
)
def test_a_wrong_key_is_named_in_one_line(override: str, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(QUICKSTART, [override])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_overrides_are_yaml_and_numbers_may_be_scientific() -> None:
    recipe = load(QUICKSTART, ["learner.optimizer.learning_rate=1e-5", "cold_start=null", "replay.max_staleness=0"])
    assert recipe.learner.optimizer.learning_rate == 1e-5
    assert recipe.cold_start is None
    assert recipe.replay.max_staleness == 0


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"bad\.yaml"):
        load(path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(RecipeError, match="no-such-file"):
        load(Path("no-such-file.yaml"))


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
    ],
)
def test_what_would_be_ignored_or_count_twice_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load(QUICKSTART, overrides)
