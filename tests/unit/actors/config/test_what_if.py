"""What a run whose steps are trained again may do in another way."""

from pathlib import Path

import pytest

from actors.config.loading import dump, load
from actors.config.what_if import what_if
from actors.errors import RecipeError
from learner.objective import ObjectiveConfig

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


@pytest.fixture
def resolved(tmp_path: Path) -> Path:
    """As a run keeps it: every part of the objective is there."""
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(load(QUICKSTART, ["learner.objective=null", "learner.objective={name: dapo, clip_low: 0.1}"])))
    return path


def test_another_objective_brings_along_what_its_name_sets_and_keeps_what_was_chosen(resolved: Path) -> None:
    assert what_if(resolved, []) == load(resolved)
    objective = what_if(resolved, ["learner.objective.name=dr_grpo"]).learner.objective
    assert objective == ObjectiveConfig(name="dr_grpo", clip_low=0.1)
    gspo = what_if(resolved, ["learner.objective.name=gspo", "learner.objective.aggregation=token"]).learner.objective
    assert gspo == ObjectiveConfig(name="gspo", clip_low=0.1, aggregation="token")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps=4", "below learner"),
        ("generators.sampling.temperature=0.5", "below learner"),
        ("learner.lora.rank=4", "adapters"),
        ("learner.objective.nmae=gspo", "no such key"),
    ],
)
def test_what_would_be_ignored_or_does_not_fit_is_refused(resolved: Path, override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        what_if(resolved, [override])
