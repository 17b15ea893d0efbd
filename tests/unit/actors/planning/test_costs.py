"""Times by formula, against figures by hand."""

from pathlib import Path
from typing import Any

import pytest

from actors.config.loading import load
from actors.config.model import FolderModel
from actors.config.recipe import Recipe
from actors.planning.architectures import ModelShape, architecture
from actors.planning.costs import decode_seconds, training_flops, update_bytes, update_seconds
from actors.planning.public import Hardware
from learner.model.flops import attention_flops

RECIPES = Path(__file__).parents[4] / "recipes"
SMALL = ModelShape(layers=2, hidden=64, intermediate=128, heads=4, kv_heads=4, head=16, vocabulary=1000)
SLOW = Hardware(flops=1e9, memory=1e9, bandwidth=1e6, host=1e6, network=1e6, step_seconds=0.5, source="none")


def recipe(*changes: str) -> Recipe:
    return load(RECIPES / "quickstart.yaml", changes)


def test_training_is_six_flop_a_parameter_and_token_and_attention() -> None:
    attention = attention_flops(SMALL.attention_width, 10, 100)
    assert attention == 6 * 2 * 64 * 10 * 100
    assert training_flops(recipe(), SMALL, 10, 100) == 6 * SMALL.parameters * 10 + attention


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        (["learner.objective={name: grpo, kl: k3, kl_coefficient: 0.1}"], 1 + 1 / 3),
        (["learner.epochs=2"], 2),
        (["learner.objective={name: decoupled_ppo}", "learner.minibatches=2"], 1 + 1 / 3),
        (["learner.objective={name: decoupled_ppo}"], 1),
        (["learner.objective={name: clip_cov}"], 1 + 1 / 3),
        (["learner.lora={rank: 4}"], 2 / 3),
    ],
)
def test_what_is_scored_beside_costs_a_third_and_frozen_weights_save_one(changes: list[str], passes: float) -> None:
    plain = training_flops(recipe(), SMALL, 1000, 100)
    assert training_flops(recipe(*changes), SMALL, 1000, 100) == pytest.approx(passes * plain)


def test_an_engine_step_reads_weights_and_caches_or_computes() -> None:
    """4 bytes a parameter; a token of cache is 2 x 2 x 64 numbers."""
    alone = decode_seconds(SMALL, SLOW, 1, "float32", 1, 50, use=0.5)
    assert alone == pytest.approx(4 * (SMALL.parameters + 50 * 256) / 0.5e6 + 0.5)
    fast_memory = Hardware(1e6, 1e9, 1e12, 1e12, 1.0, 0.0, "none")
    flops = 8 * (2 * SMALL.parameters + 2 * 2 * (64 + 64) * 50)
    assert decode_seconds(SMALL, fast_memory, 2, "float32", 8, 50, use=0.5) == pytest.approx(flops / 1e6)


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [("Qwen/Qwen2.5-7B", "bfloat16", 15.23e9), ("deepseek-ai/DeepSeek-V3", "bfloat16", 1342e9)],
)
def test_an_update_is_every_parameter_in_the_compute_dtype(name: str, dtype: Any, expected: float) -> None:
    a = architecture(FolderModel(path=name))
    assert update_bytes(recipe(f"learner.dtype={dtype}"), a) == pytest.approx(expected, rel=1e-3)


def test_adapters_are_sent_alone_in_float32() -> None:
    lora = recipe("learner.lora={rank: 8, broadcast: adapters}")
    assert update_bytes(lora, SMALL) == 4 * 8 * 2 * (4 * 128 + 3 * 192)


@pytest.mark.parametrize(
    ("senders", "path", "receiver", "seconds"),
    [(1, 10.0, 50.0, 6.0), (2, 10.0, 50.0, 3.0), (4, 10.0, 30.0, 2.0), (4, 30.0, 30.0, 2.0)],
)
def test_senders_share_an_update_until_the_link_of_a_receiver_is_full(
    senders: int, path: float, receiver: float, seconds: float
) -> None:
    assert update_seconds(60.0, senders, path, receiver) == seconds
