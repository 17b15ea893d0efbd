"""A pipeline resolves to ordinary recipes, and what is wrong with it is said in one line that names the stage."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.config.loading import load
from actors.config.model import FolderModel, TinyModel
from actors.config.pipeline import is_pipeline, load_pipeline, merged
from actors.errors import RecipeError

RECIPES = sorted((Path(__file__).parents[4] / "recipes").glob("*.yaml"))
COMMON: dict[str, Any] = {
    "model": {"kind": "tiny", "layers": 2},
    "tasks": {"sources": [{"source": "addition", "digits": 2}], "template": "raw"},
    "cold_start": {"traces": "addition", "supervised": {"epochs": 2}},
}
COLD: dict[str, Any] = {"name": "cold", "kind": "sft"}
TEST: dict[str, Any] = {"name": "test", "kind": "evaluate", "model": "opd"}
RL: dict[str, Any] = {"name": "rl", "kind": "rl", "model": "cold", "recipe": {"steps": 3}}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(*stages: dict[str, Any], common: dict[str, Any] = COMMON) -> Path:
        path = tmp_path / "two.yaml"
        tree = {"name": "two", "output": str(tmp_path / "runs"), "common": common, "stages": list(stages)}
        path.write_text(yaml.safe_dump(tree))
        return path

    return written


@pytest.mark.parametrize("path", [path for path in RECIPES if is_pipeline(path)], ids=lambda path: path.stem)
def test_every_pipeline_of_ours_is_whole(path: Path) -> None:
    found = load_pipeline(path)
    assert [stage.name for stage in found.stages] == [stage.name for stage in found.config.stages]


def test_each_stage_is_a_recipe_with_what_is_common_and_what_earlier_stages_leave(write: Any, tmp_path: Path) -> None:
    found = load_pipeline(write(COLD, RL, {"name": "test", "kind": "evaluate", "model": "rl"}))
    cold, rl, test = found.stages
    assert found.folder == tmp_path / "runs" / "two"
    assert [s.folder.name for s in found.stages] == ["01-cold", "02-rl", "03-test"]
    assert cold.recipe.steps == 0 and cold.recipe.cold_start is not None and isinstance(cold.recipe.model, TinyModel)
    assert rl.recipe.steps == 3 and rl.recipe.cold_start is None
    assert rl.recipe.model == FolderModel(kind="folder", path=str(cold.folder / "model"))
    assert test.recipe.steps == 0 and test.needs == {"model": "rl"}
    assert rl.recipe.name == "two-rl" and rl.recipe.output == found.folder


def test_a_section_is_merged_and_a_list_or_a_model_is_replaced() -> None:
    under = {"model": {"kind": "tiny", "layers": 2}, "replay": {"group_size": 4, "max_staleness": 1}}
    over = {"model": {"kind": "smollm2"}, "replay": {"group_size": 8}, "tasks": {"sources": [1]}}
    assert merged(under | {"tasks": {"sources": [2, 3], "held_out": 5}}, over) == {
        "model": {"kind": "smollm2"},
        "replay": {"group_size": 8, "max_staleness": 1},
        "tasks": {"sources": [1], "held_out": 5},
    }
    assert under == {"model": {"kind": "tiny", "layers": 2}, "replay": {"group_size": 4, "max_staleness": 1}}


def test_a_stage_is_overridden_by_its_name_and_all_of_them_by_common(write: Any) -> None:
    found = load_pipeline(write(COLD, RL), ["stages.rl.recipe.steps=5", "common.seed=7", "name=other"])
    assert [s.recipe.seed for s in found.stages] == [7, 7]
    assert found.stages[1].recipe.steps == 5
    assert found.folder.name == "other"


def test_one_set_of_data_is_read_where_it_lies_and_several_are_joined_beside_the_stage(
    write: Any, tmp_path: Path
) -> None:
    first = load_pipeline(write(COLD | {"data": ["a.jsonl"]})).stages[0]
    assert first.recipe.cold_start is not None and first.recipe.cold_start.traces == Path.cwd() / "a.jsonl"
    both = load_pipeline(write(COLD | {"data": ["a.jsonl", "b.jsonl"]})).stages[0]
    assert both.recipe.cold_start is not None
    assert both.recipe.cold_start.traces == tmp_path / "runs" / "two" / "01-cold.data.jsonl"
    assert [path.name for path in both.data] == ["a.jsonl", "b.jsonl"]


def test_the_reward_model_of_an_earlier_stage_takes_the_place_of_pairs(write: Any) -> None:
    judge = {
        "name": "judge",
        "kind": "reward_model",
        "recipe": {"preferences": {"pairs": "pairs.jsonl", "reads": "answer"}},
    }
    final = RL | {"model": "judge", "reward_model": "judge", "recipe": {"steps": 1, "preferences": {"weight": 0.2}}}
    trained, scored = load_pipeline(write(judge, final)).stages
    assert trained.recipe.steps == 0
    assert scored.recipe.preferences is not None and scored.recipe.preferences.weight == 0.2
    assert scored.recipe.preferences.reward_model == trained.folder / "reward-model"
    assert scored.recipe.preferences.reads == "answer", "it sees what it was trained on"


def taught(teacher: str, **recipe: Any) -> dict[str, Any]:
    own = {"steps": 1, "learner": {"objective": {"name": "opd"}}, "replay": {"drop_zero_variance": False}}
    return {"name": "opd", "kind": "rl", "teacher": teacher, "recipe": own | recipe}


def test_the_model_of_an_earlier_stage_teaches_a_later_one(write: Any) -> None:
    cold, opd, test = load_pipeline(write(COLD, taught("cold", distillation={"dtype": "bfloat16"}), TEST)).stages
    assert opd.needs == {"teacher": "cold"} and isinstance(opd.recipe.model, TinyModel)
    assert opd.recipe.distillation is not None
    assert (opd.recipe.distillation.teacher, opd.recipe.distillation.dtype) == (cold.folder / "model", "bfloat16")
    assert opd.recipe.has_scorers and not test.recipe.has_scorers


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([taught("cold")], "stage opd: teacher: there is no earlier stage cold; the stages before it are none"),
        ([COLD, COLD | {"name": "b", "teacher": "cold"}], "stage b: teacher: only rl is taught by one, on policy"),
        ([COLD, RL | {"teacher": "cold"}], "stage rl: distillation would be ignored; set learner.objective.name: opd"),
        ([RL], "stage rl: model: there is no earlier stage cold"),
        ([COLD, COLD], "two stages are called cold"),
        ([COLD | {"kind": "sftt"}], "stages.0.kind: must be 'sft', 'rl'"),
        ([COLD | {"modle": "x"}], "stages.0.modle: there is no such key; did you mean stages.0.model?"),
        ([COLD | {"recipe": {"learner": {"speed": 1}}}], "stage cold: learner.speed: there is no such key"),
        ([COLD | {"recipe": {"steps": 5}}], "stage cold: steps: only rl takes steps"),
        ([COLD, RL | {"recipe": {}}], "stage rl: steps: is missing"),
        ([COLD, RL | {"recipe": {"steps": 1, "cold_start": COMMON["cold_start"]}}], "a stage of kind rl has none"),
        ([COLD, RL | {"data": ["cold"]}], "data: cold is of kind sft, and samples come from one of kind sample"),
        ([COLD | {"data": ["smaple"]}], "data: there is no earlier stage smaple"),
        ([COLD, RL | {"data": ["a.jsonl"]}], "data: only sft and distill learn from data"),
        ([COLD | {"kind": "distill"}], "data: distill needs the samples of another model"),
        ([COLD | {"kind": "reward_model"}], "stage cold: preferences: is missing"),
        ([COLD, RL | {"reward_model": "cold"}], "stage rl: reward_model: cold trains none"),
        ([], "stages: must have 1 or more entries"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_stage(write: Any, stages: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_pipeline(write(*stages))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stages.rl.recipe.steps=many", "-s stages.rl.recipe.steps=many: steps: must be a whole number"),
        ("common.seed=-1", "-s common.seed=-1: seed: must be greater than or equal to 0"),
        ("stages.lr.recipe.steps=1", "stages has 2 entries; name one by number"),
    ],
)
def test_a_wrong_override_is_named(write: Any, override: str, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_pipeline(write(COLD, RL), [override])
    assert says in str(error.value)


def test_a_command_for_one_run_says_that_it_was_given_a_pipeline(write: Any, tmp_path: Path) -> None:
    path = write(COLD)
    assert is_pipeline(path) and not is_pipeline(tmp_path)
    with pytest.raises(RecipeError, match="is a pipeline"):
        load(path)
