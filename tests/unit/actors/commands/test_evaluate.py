"""What `leeway eval` makes a run of."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from actors.commands.evaluate import recipe_of
from actors.config.loading import dump, load
from actors.errors import RecipeError
from actors.tasks import TaskStream

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


@pytest.fixture
def of_gsm8k(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    lines = [{"question": f"What is {n} + {n}?", "answer": f"{n} + {n} = {2 * n}\n#### {2 * n}"} for n in range(9)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that has finished."""
    folder = tmp_path / "quickstart-20261127"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "recipe.yaml").write_text(dump(load(QUICKSTART, ["rewards.format=r1_zero"])))
    return folder


def test_all_tasks_of_a_file_are_evaluated_as_the_paper_samples(run: Path, of_gsm8k: Path) -> None:
    recipe = recipe_of(str(run), str(of_gsm8k), 8, ["generators.engine=transformers"])
    assert (recipe.steps, recipe.evaluation.samples, recipe.evaluation.keep_completions) == (0, 8, True)
    sampling = recipe.evaluation_sampling
    assert (sampling.temperature, sampling.top_p) == (0.6, 0.95)
    stream = TaskStream(recipe.tasks, recipe.seed)
    assert {task.reference["answer"] for task in stream.held_out} == {str(2 * n) for n in range(9)}
    with pytest.raises(RecipeError, match="all of its problems are held out"):
        stream.train(0)
    assert recipe.name == "eval-quickstart-20261127-questions"


def test_a_run_is_evaluated_with_its_own_prompts_and_rewards_and_not_trained(run: Path, of_gsm8k: Path) -> None:
    trained, recipe = load(run / "recipe.yaml"), recipe_of(str(run), str(of_gsm8k), 1, [])
    assert recipe.tasks.template == trained.tasks.template
    assert recipe.rewards == trained.rewards
    assert recipe.generators == trained.generators
    assert recipe.cold_start is None and trained.cold_start is not None
    assert recipe.model.model_dump() == {"kind": "folder", "path": str(run / "model")}


def test_of_a_recipe_the_held_out_tasks_are_evaluated(run: Path) -> None:
    recipe = recipe_of(str(run), str(QUICKSTART), 2, [])
    assert recipe.tasks == load(QUICKSTART).tasks


def test_a_model_of_which_no_recipe_says_anything_gets_what_it_can_read(of_gsm8k: Path) -> None:
    recipe = recipe_of("smollm2", str(of_gsm8k), 1, ["generators.sampling.max_tokens=64"])
    assert recipe.tasks.template == "chat"
    assert recipe.tasks.max_prompt_tokens + recipe.generators.sampling.max_tokens <= 8192


def test_sets_of_programs_are_evaluated_by_their_tests(run: Path, tmp_path: Path) -> None:
    stream = TaskStream(recipe_of(str(run), "humaneval", 1, []).tasks, 0)
    assert len(stream.held_out) == 164 and {task.verifier for task in stream.held_out} == {"assert"}
    line = {"text": "Double a number.", "test_list": ["assert double(2) == 4"]}
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(line))
    (only,) = TaskStream(recipe_of(str(run), str(tmp_path / "mbpp.jsonl"), 1, []).tasks, 0).held_out
    assert only.reference["entry"] == "double"


def test_sets_on_the_hub_are_known_by_name_and_by_the_form_of_their_files(run: Path, tmp_path: Path) -> None:
    samples = Path(__file__).parents[1] / "tasks" / "samples"
    columns = {
        "task_id": [11, 12],
        "text": ["Double a number.", "Halve a number."],
        "code": ["", ""],
        "test_list": [["assert double(2) == 4"], ["assert halve(2) == 1", "assert halve(4) == 2"]],
        "test_setup_code": ["", "import math"],
        "challenge_test_list": [[], []],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "mbpp.parquet")
    files = {
        "gpqa-diamond": samples / "gpqa_diamond.csv",
        "livecodebench": samples / "livecodebench.jsonl",
        "mbpp": tmp_path / "mbpp.parquet",
    }
    for name, file in files.items():
        (by_name,) = recipe_of(str(run), name, 1, []).tasks.sources
        assert str(by_name.path).startswith("hf://datasets/")  # type: ignore[union-attr]
        on_disk = recipe_of(str(run), name, 1, [f"tasks.sources.0.path={file}"])
        of_file = recipe_of(str(run), str(file), 1, [])
        assert of_file.tasks == on_disk.tasks
        assert len(TaskStream(of_file.tasks, 0).held_out) == {"gpqa-diamond": 3}.get(name, 2)


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        ("nothing.jsonl", "nothing.jsonl: no file, and none of the sets gsm8k, math-500, aime-2024"),
        ("mbp", "mbp: no file, and none of the sets"),
    ],
)
def test_tasks_that_are_none_are_refused_in_one_line(run: Path, tasks: str, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        recipe_of(str(run), tasks, 1, [])


def test_a_run_that_has_left_no_model_is_refused(run: Path, of_gsm8k: Path) -> None:
    (run / "model" / "config.json").unlink()
    (run / "model").rmdir()
    with pytest.raises(RecipeError, match="has left no model yet"):
        recipe_of(str(run), str(of_gsm8k), 1, [])


def test_an_override_that_does_not_fit_is_named_and_no_file_that_nobody_knows(run: Path, of_gsm8k: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(str(run), str(of_gsm8k), 1, ["evaluation.samplse=3"])
    assert "evaluation.samplse" in str(caught.value) and "eval.yaml" not in str(caught.value)
