"""Which steps are trained again under which settings, and what is said of them."""

from pathlib import Path

import pytest

from actors.commands import replay as command
from actors.config.loading import dump, load
from actors.errors import RecipeError
from actors.roles.learner.retraining import Plan, Retrained
from learner.checkpoint import Difference

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


@pytest.mark.parametrize(
    ("text", "steps"), [(":", (1, 9)), ("3:", (3, 9)), (":4", (1, 4)), ("3:4", (3, 4)), ("5", (5, 5))]
)
def test_steps_are_a_range_or_one(text: str, steps: tuple[int, int]) -> None:
    assert command._range(text, 9) == steps


@pytest.mark.parametrize("text", ["0:3", "4:3", "a:b", "1:2:3", "-1"])
def test_other_steps_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="--steps"):
        command._range(text, 9)


@pytest.fixture
def changed_twice(tmp_path: Path) -> Path:
    """A run that was resumed at step 10 and at step 20, each time with another number of epochs."""
    for epochs, name in ((1, "recipe-until-000010.yaml"), (2, "recipe-until-000020.yaml"), (3, "recipe.yaml")):
        (tmp_path / name).write_text(dump(load(QUICKSTART, [f"learner.epochs={epochs}"])))
    return tmp_path


def settings(folder: Path, first: int, *overrides: str) -> dict[int, tuple[int, float]]:
    eras = command._eras(folder, first, overrides)
    plan = Plan(folder, folder, first, 99, eras, compared=not overrides)
    found = {step: plan.era(step).recipe.learner for step in (1, 10, 11, 14, 15, 20, 21)}
    return {step: (learner.epochs, learner.optimizer.gradient_clip) for step, learner in found.items()}


def test_each_step_is_trained_under_the_settings_of_its_time(changed_twice: Path) -> None:
    usual = settings(changed_twice, 1)
    assert [epochs for epochs, _ in usual.values()] == [1, 1, 2, 2, 2, 2, 3]
    found = settings(changed_twice, 15, "learner.optimizer.gradient_clip=7.0")
    assert {step: epochs for step, (epochs, _) in found.items()} == {step: e for step, (e, _) in usual.items()}
    assert [step for step, (_, clip) in found.items() if clip == 7.0] == [15, 20, 21]


def step(number: int, compared: bool, difference: Difference | None = None) -> Retrained:
    return Retrained(number, {"loss": 0.5}, {0: 3}, compared, difference)


def test_the_first_checkpoint_that_differs_is_named(changed_twice: Path) -> None:
    eras = command._eras(changed_twice, 1, [])
    plan = Plan(changed_twice, changed_twice, 1, 3, eras, compared=True)
    assert "a checkpoint of none" in command._verdict(plan, [step(1, False)])
    same = [step(1, True), step(2, False), step(3, True)]
    assert command._verdict(plan, same) == "bit-identical to the checkpoints of the steps 1, 3"
    other = Difference("model.norm.weight", 0.25)
    verdict = command._verdict(plan, [*same, step(4, True, other), step(5, True, other)])
    assert verdict.startswith("step 4 differs from its checkpoint, first in model.norm.weight, at most by 0.25")


def test_the_report_has_the_runs_statistics_beside_the_new_ones(changed_twice: Path) -> None:
    plan = Plan(changed_twice, changed_twice, 1, 2, command._eras(changed_twice, 1, []), compared=False)
    found = [step(1, False), step(2, False)]
    place = command._write(plan, found, {1: {"loss": 0.5}, 2: {"loss": 1.5}}, ["learner.epochs=9"])
    again = command._write(plan, found, {}, [])
    text = (place / "report.md").read_text()
    assert "learner.epochs=9" in text and "| 1 | 0.5 |" in text and "| 2 | 1.5 → 0.5 |" in text
    assert len((place / "steps.jsonl").read_text().splitlines()) == 2
    assert again != place and again.parent == changed_twice / "replays"
