"""A step of a mixture of experts counts the FLOP of the experts that a token is routed to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from learner import LearnerConfig, Trainer
from learner.model.experts import idle_parameters
from learner.model.flops import model_flops
from tests.unit.learner import mixtures
from tests.unit.learner.conftest import GroupFactory

HIDDEN, WIDTH = mixtures.SIZES["hidden_size"], mixtures.SIZES["moe_intermediate_size"]
#: Experts of every family are as wide.
SIZES: dict[str, Any] = {**mixtures.SIZES, "intermediate_size": WIDTH}


@pytest.mark.parametrize(
    ("kind", "own", "layers", "unused"),
    [
        ("llama", {}, 0, 0),
        ("mixtral", {"num_local_experts": 5}, 3, 3),
        ("qwen3_moe", {"num_experts": 6, "head_dim": 16}, 3, 4),
        ("qwen3_moe", {"num_experts": 6, "head_dim": 16, "mlp_only_layers": [0]}, 2, 4),
        ("deepseek_v3", {**mixtures.LATENT, "n_routed_experts": 8}, 2, 6),
    ],
)
def test_experts_that_a_token_is_not_routed_to_are_idle(
    kind: str, own: dict[str, Any], layers: int, unused: int
) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **own))
    assert idle_parameters(model) == layers * unused * 3 * HIDDEN * WIDTH


def test_utilisation_counts_active_parameters(tmp_path: Path, make_groups: GroupFactory) -> None:
    config = AutoConfig.for_model("mixtral", **SIZES, num_local_experts=4)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    trainer = Trainer(LearnerConfig(dtype="float32", device="cpu", threads=1, peak_teraflops=1.0), tmp_path, seed=0)
    found = trainer.train_step(make_groups())
    active = sum(p.numel() for p in model.parameters()) - 3 * 2 * 3 * HIDDEN * WIDTH
    fed = found["teraflops"] * 1e12 * found["seconds"] / model_flops(active, 1)
    assert fed == pytest.approx(round(fed), abs=1e-3)
    assert found["mfu"] == pytest.approx(found["teraflops"])
