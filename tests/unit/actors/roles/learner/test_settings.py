"""What the trainer is told beside the recipe's own section."""

from pathlib import Path

from actors.config.loading import load
from actors.roles.learner.settings import learner_config
from actors.roles.verifier.scoring import PART

QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"


def test_a_batch_to_inspect_is_saved_in_the_run_folder(tmp_path: Path) -> None:
    assert learner_config(load(QUICKSTART), tmp_path).inspection_folder == str(tmp_path / "inspection")
    chosen = load(QUICKSTART, [f"learner.inspection_folder={tmp_path}/elsewhere"])
    assert learner_config(chosen, tmp_path).inspection_folder == f"{tmp_path}/elsewhere"


def test_the_advantages_weigh_the_parts_as_the_reward_does_unless_told_otherwise() -> None:
    given = ["rewards.weights.accuracy=1", "rewards.weights.format=0.25", "rewards.format=r1_zero"]
    assert learner_config(load(QUICKSTART, given)).objective.part_weights == {"accuracy": 1.0, "format": 0.25}
    preferred = [*given, "preferences.reward_model=/models/judge", "preferences.weight=0.5"]
    found = learner_config(load(QUICKSTART, preferred)).objective.part_weights
    assert found == {"accuracy": 1.0, "format": 0.25, PART: 0.5}
    other = [*given, "learner.objective.part_weights={accuracy: 2}"]
    assert learner_config(load(QUICKSTART, other)).objective.part_weights == {"accuracy": 2.0}
