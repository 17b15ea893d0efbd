"""What the learner's actor makes of a recipe and of a delivered batch."""

from pathlib import Path

import numpy as np
import pytest

from actors.config.loading import load
from actors.replay.payload import Payload
from actors.roles.learner.learner import groups_of, learner_config, merging_of
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


def test_a_delivered_batch_keeps_what_the_reward_was_made_of() -> None:
    payload = Payload(
        prompt=np.array([1, 2], np.int32),
        tokens=np.arange(5, dtype=np.int32),
        logprobs=np.full(5, -0.5, np.float32),
        lengths=np.array([2, 3], np.int32),
        truncated=np.array([0, 1], np.uint8),
        spans=np.ones(2, np.int32),
        span_versions=np.array([3, 4], np.int32),
        span_tokens=np.array([2, 3], np.int32),
    )
    head = {"group_id": 9, "rewards": [1.1, 0.0], "parts": [{"accuracy": 1.0, "format": 1.0}, {"accuracy": 0.0}]}
    (group,) = groups_of([head], {f"0.{name}": array for name, array in payload.arrays().items()}, 2)
    assert group.id == 9
    assert [c.reward for c in group.completions] == head["rewards"]
    assert [c.parts for c in group.completions] == head["parts"]
    assert [c.versions.tolist() for c in group.completions] == [[3, 3], [4, 4, 4]]
    assert [c.truncated for c in group.completions] == [False, True]
