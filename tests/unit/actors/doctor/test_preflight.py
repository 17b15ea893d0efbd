"""What the preflight gives the ranks, and which recipes it refuses."""

from pathlib import Path

import pytest

from actors.config.loading import load
from actors.doctor.preflight import environment_of, measured
from actors.errors import RecipeError

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def test_a_rank_sees_its_gpu_and_no_secret() -> None:
    whole = {"PATH": "/bin", "LEEWAY_TOKEN": "t", "NCCL_IB_HCA": "mlx5", "CUDA_VISIBLE_DEVICES": "4,6", "AWS_KEY": "k"}
    assert environment_of(whole, 1) == {
        "PATH": "/bin",
        "NCCL_IB_HCA": "mlx5",
        "CUDA_VISIBLE_DEVICES": "6",
        "NCCL_TESTS_DEVICE": "0",
    }


@pytest.mark.parametrize(
    ("overrides", "said"), [([], r"ray\.address"), (["ray.address=auto"], r"generators\.gpus, learner\.gpus")]
)
def test_without_a_cluster_or_gpus_there_is_nothing_to_measure(overrides: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        measured(load(QUICKSTART, overrides))
