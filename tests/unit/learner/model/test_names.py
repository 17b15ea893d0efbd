"""What leaves the learner has the names, shapes and values of a checkpoint that `transformers` saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, conversion_mapping
from transformers.core_model_loading import GroupWeightRename, WeightRenaming, WeightTransform

from actors.engines.transformers import TransformersEngine
from benchmarks.families import FAMILIES, family
from learner import LearnerConfig, RewardModel, Trainer
from learner.errors import ModelError
from learner.model.names import KNOWN, persistent_buffers
from tests.unit.learner.conftest import GroupFactory

CONFIG = LearnerConfig(dtype="float32", device="cpu", micro_batch_tokens=200, threads=1)
CONVERTED = ["qwen3-moe", "mixtral", "gpt-neox", "deepseek-v3"]


def _saved(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def _require_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def _unsent(model: Any) -> set[str]:
    """Engines have these from their folder."""
    return {name for name, _ in persistent_buffers(model)}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_trained_model_is_sent_and_exported_as_transformers_saves_it(
    name: str, tmp_path: Path, make_groups: GroupFactory
) -> None:
    folder = family(name, tmp_path / "model", shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    trainer = Trainer(CONFIG, folder, seed=0)
    unsent = _unsent(trainer.model)
    assert bool(unsent) == (name == "deepseek-v3")
    before, files = dict(trainer.snapshot()), _saved(folder)
    _require_same(before, {n: t for n, t in files.items() if n not in unsent})
    trainer.train_step(make_groups())
    snapshot = trainer.snapshot()
    sent = dict(snapshot)
    assert len(snapshot) == len(sent)
    trainer.model.save_pretrained(tmp_path / "saved")
    expected = _saved(tmp_path / "saved")
    assert unsent <= expected.keys()
    _require_same(sent, {n: t for n, t in expected.items() if n not in unsent})
    _require_same(dict(trainer.named_tensors()), sent)
    changed = [n for n in sent if not torch.equal(before[n], sent[n])]
    assert len(changed) > len(sent) // 2
    trainer.export(tmp_path / "exported")
    _require_same(_saved(tmp_path / "exported"), expected)
    again = Trainer(CONFIG, tmp_path / "exported", seed=0)
    _require_same(dict(again.named_tensors()), sent)
    _require_same(dict(persistent_buffers(again.model)), dict(persistent_buffers(trainer.model)))


@pytest.mark.parametrize("name", CONVERTED)
def test_an_engine_of_transformers_takes_what_is_sent(name: str, tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, family(name, tmp_path / "model"), seed=0)
    engine = object.__new__(TransformersEngine)
    engine._model = Trainer(CONFIG, tmp_path / "model", seed=0).model
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(1)
    sent = list(trainer.snapshot())
    engine._load(sent)
    _require_same(dict(engine._model.named_parameters()), dict(trainer.model.named_parameters()))
    with pytest.raises(RuntimeError, match="missing"):
        engine._load(sent[:-1])


class MayRemember(WeightRenaming):
    """Of a kind that might give a tensor its name by those before it. It renames nothing here."""

    __slots__ = ()


def test_a_conversion_of_a_kind_that_nobody_knows_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = family("llama", tmp_path / "model")
    changed = conversion_mapping._build_checkpoint_conversion_mapping() | {"llama": [MayRemember("lm_head", "lm_head")]}
    monkeypatch.setattr(conversion_mapping, "_checkpoint_conversion_mapping_cache", changed)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM are converted by MayRemember, .* tensor by tensor"):
        Trainer(CONFIG, folder, seed=0)


def test_every_conversion_that_transformers_brings_along_is_known() -> None:
    """And one that remembers names has several sources, so that all tensors are converted at once."""
    found = [
        one
        for mapping in conversion_mapping._build_checkpoint_conversion_mapping().values()
        for one in _transforms(mapping)
    ]
    assert len(found) > 1000
    assert {type(one) for one in found} <= KNOWN
    groups = [one for one in found if isinstance(one, GroupWeightRename)]
    assert groups and all(len(one.reverse_transform().source_patterns) > 1 for one in groups)


def _transforms(mapping: Any) -> list[WeightTransform]:
    return [one for one in mapping if isinstance(one, WeightTransform)] if isinstance(mapping, list) else []


def test_a_reward_model_with_experts_is_exported_as_files_have_it(tmp_path: Path) -> None:
    config = AutoConfig.for_model("mixtral", **_mixtral(), num_labels=1)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "model")
    RewardModel(CONFIG, tmp_path / "model", seed=0).export(tmp_path / "exported")
    expected = _saved(tmp_path / "model")
    assert any(name.endswith("experts.1.w1.weight") for name in expected)
    _require_same(_saved(tmp_path / "exported"), expected)


def _mixtral() -> dict[str, Any]:
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "pad_token_id": 0}
    return {**sizes, "num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2}
