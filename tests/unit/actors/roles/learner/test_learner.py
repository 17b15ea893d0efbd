"""What the learner's actor makes of a recipe."""

from pathlib import Path

import pytest

from actors.config.loading import load
from actors.errors import RecipeError
from actors.roles.learner.learner import learner_config, merging_of, require_length
from benchmarks.models import small_llama

QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"


def test_a_batch_to_inspect_is_saved_in_the_run_folder(tmp_path: Path) -> None:
    assert learner_config(load(QUICKSTART), tmp_path).inspection_folder == str(tmp_path / "inspection")
    chosen = load(QUICKSTART, [f"learner.inspection_folder={tmp_path}/elsewhere"])
    assert learner_config(chosen, tmp_path).inspection_folder == f"{tmp_path}/elsewhere"


@pytest.mark.parametrize(
    ("learner", "generators", "merged"),
    [
        ("float32", "float32", "float32"),
        ("float32", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "bfloat16"),
        ("bfloat16", "bfloat16", "bfloat16"),
    ],
)
def test_merged_weights_are_rounded_as_if_they_had_travelled(
    tmp_path: Path, learner: str, generators: str, merged: str
) -> None:
    keys = ["learner.lora.rank=8", "learner.lora.alpha=4", "learner.lora.broadcast=adapters"]
    recipe = load(QUICKSTART, [*keys, f"learner.dtype={learner}", f"generators.dtype={generators}"])
    merging = merging_of(recipe, small_llama(tmp_path / "model", 64))
    assert (merging.dtype, merging.scale) == (merged, 0.5)


def test_answers_beyond_what_a_models_positions_allow_are_refused_at_the_start() -> None:
    recipe = load(QUICKSTART, ["tasks.max_prompt_tokens=100", "generators.sampling.max_tokens=28"])
    require_length(recipe, None)
    require_length(recipe, 128)
    with pytest.raises(RecipeError, match="are 128 together, and beyond 127 the positions"):
        require_length(recipe, 127)
