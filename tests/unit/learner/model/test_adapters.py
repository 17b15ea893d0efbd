"""Adapters: only they are trained, and frozen ones beside them are the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.families import family
from benchmarks.models import small_llama
from learner import LearnerConfig, ModelError, ObjectiveConfig, OptimizerConfig, Trainer
from learner.config import LoraSettings
from learner.model.adapters import adapter_tensors, reference_adapters
from learner.model.packing import Segment, pack
from learner.sft import cross_entropy
from tests.unit.learner.conftest import GroupFactory

CONFIG = LearnerConfig(
    dtype="float32", device="cpu", micro_batch_tokens=200, optimizer=OptimizerConfig(learning_rate=1e-2)
)


def _ids(random: np.random.Generator, length: int, low: int = 0, high: int = 64) -> np.ndarray:
    return random.integers(low, high, length).astype(np.int32)


@pytest.mark.parametrize("broadcast", ["merged", "adapters"])
def test_lora_trains_adapters_only(tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, broadcast: str) -> None:
    config = CONFIG.model_copy(update={"lora": LoraSettings(rank=4, broadcast=broadcast)})
    trainer = Trainer(config, tiny_model, seed=0)
    plain = dict(Trainer(CONFIG, tiny_model, seed=0).named_tensors())
    trainer.train_step(make_groups())
    sent = dict(trainer.snapshot())
    if broadcast == "adapters":
        assert sent and all("lora_A.weight" in name or "lora_B.weight" in name for name in sent)
        assert sum(t.numel() for t in sent.values()) < sum(t.numel() for t in plain.values())
    else:
        assert set(sent) == set(plain)
        changed = {name for name in plain if not torch.equal(plain[name], sent[name])}
        assert changed and all("proj" in name for name in changed)
    trainer.export(tmp_path / "exported")
    random = np.random.default_rng(1)
    example = [(_ids(random, 4), _ids(random, 9))]
    exported = Trainer(CONFIG, tmp_path / "exported", seed=0)
    assert cross_entropy(exported, example, train=False)[0] == pytest.approx(
        cross_entropy(trainer, example, train=False)[0], abs=1e-4
    )


WITH_REFERENCE = CONFIG.model_copy(
    update={"lora": LoraSettings(rank=4), "objective": ObjectiveConfig(kl="k3", kl_coefficient=0.1)}
)


def test_without_a_cold_start_the_reference_is_the_model_without_adapters(
    tiny_model: Path, make_groups: GroupFactory
) -> None:
    trainer = Trainer(WITH_REFERENCE, tiny_model, seed=0)
    plain = Trainer(CONFIG, tiny_model, seed=0)
    trainer.train_step(make_groups(seed=0))
    packed = pack([Segment(_ids(np.random.default_rng(0), 4), (_ids(np.random.default_rng(1), 9),), (0,))])
    with torch.no_grad(), reference_adapters(trainer.model):
        assert torch.equal(trainer.policy(packed)[0], plain.policy(packed)[0])


def test_the_reference_adapters_are_neither_trained_nor_sent(tiny_model: Path, make_groups: GroupFactory) -> None:
    trainer = Trainer(WITH_REFERENCE, tiny_model, seed=0)
    without = Trainer(WITH_REFERENCE.model_copy(update={"objective": ObjectiveConfig()}), tiny_model, seed=0)
    assert trainer.cost == without.cost
    assert [name for name, _ in adapter_tensors(trainer.model)] == [name for name, _ in adapter_tensors(without.model)]
    assert trainer.train_step(make_groups(seed=0))["kl"] == pytest.approx(0.0, abs=1e-6)
    assert trainer.train_step(make_groups(seed=0))["kl"] > 1e-6


def test_reference_adapters_are_refreshed_as_a_whole_reference_is(tiny_model: Path, make_groups: GroupFactory) -> None:
    objective = WITH_REFERENCE.objective.model_copy(update={"reference_refresh_steps": 2})
    trainer = Trainer(WITH_REFERENCE.model_copy(update={"objective": objective}), tiny_model, seed=0)
    kl = [trainer.train_step(make_groups(seed=0))["kl"] for _ in range(3)]
    assert kl[1] > 1e-6
    assert kl[2] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (["q_proj", "lm_head"], "lm_head is the output layer, whose adapter is not trained"),
        (".*(q_proj|lm_head)", "lm_head is the output layer"),
        (["norm"], "RMSNorm.* is not supported"),
        (["q_proj", "qproj"], "no layer that can have an adapter is called qproj"),
        (["experts"], "not found"),
    ],
)
def test_a_target_whose_adapter_would_not_be_trained_is_refused(
    tmp_path: Path, targets: str | list[str], says: str
) -> None:
    untied = small_llama(tmp_path, 64, num_hidden_layers=1, num_attention_heads=4, tie_word_embeddings=False)
    config = CONFIG.model_copy(update={"lora": LoraSettings(rank=4, targets=targets)})
    with pytest.raises(ModelError, match=f"(?s)(lora.targets.*{says}|{says}.*lora.targets)"):
        Trainer(config, untied, seed=0)


def test_experts_are_refused_and_the_attention_beside_them_is_not(tmp_path: Path) -> None:
    folder = family("mixtral", tmp_path)
    with pytest.raises(ModelError, match=r"mlp.experts .* experts cannot be adapted; name other layers in lora"):
        Trainer(CONFIG.model_copy(update={"lora": LoraSettings(rank=2)}), folder, seed=0)
    beside = LoraSettings(rank=2, targets=["q_proj", "o_proj"], broadcast="adapters")
    assert len(Trainer(CONFIG.model_copy(update={"lora": beside}), folder, seed=0).snapshot()) == 2 * 2 * 2


def test_embeddings_train_an_adapter_of_their_own_unless_the_output_layer_shares_them(
    tiny_model: Path, tmp_path: Path, make_groups: GroupFactory
) -> None:
    config = CONFIG.model_copy(update={"lora": LoraSettings(rank=4, targets=["embed_tokens"])})
    with pytest.raises(ModelError, match="embed_tokens shares its weight with the output layer"):
        Trainer(config, tiny_model, seed=0)
    untied = small_llama(tmp_path, 64, num_hidden_layers=1, num_attention_heads=4, tie_word_embeddings=False)
    trainer = Trainer(config, untied, seed=0)
    before = dict(trainer.named_tensors())
    trainer.train_step(make_groups())
    after = dict(trainer.named_tensors())
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["model.embed_tokens.weight"]
