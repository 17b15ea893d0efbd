"""Receivers of adapters alone hold what the learner would have sent as merged weights, bit-identical, or refuse."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from benchmarks.models import small_llama
from learner import Group, LearnerConfig, ModelError, OptimizerConfig, SftConfig, Trainer, train_sft
from learner.config import LoraSettings
from learner.model.adapters import adapted_layers
from learner.model.base_weights import BaseWeights
from learner.model.merging import Merging, merge, merged_weights
from tests.unit.learner.conftest import GroupFactory

Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
CPU = torch.device("cpu")


def config(broadcast: str = "adapters", dtype: str = "float32", **lora: Any) -> LearnerConfig:
    return LearnerConfig(
        dtype=dtype,
        device="cpu",
        micro_batch_tokens=200,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        lora=LoraSettings(**{"rank": 4, "alpha": 7, "broadcast": broadcast} | lora),
    )


def merging_for(folder: Path, dtype: str = "float32") -> Merging:
    return Merging(scale=config().lora.scale, dtype=dtype, base=BaseWeights(folder).fingerprint)  # type: ignore[union-attr]


def changed(folder: Path, to: Path, change: Change) -> Path:
    """A copy of a model folder with other weights in one file."""
    shutil.copytree(folder, to)
    save_file(change(load_file(folder / "model.safetensors")), to / "model.safetensors", {"format": "pt"})
    return to


def in_dtype(folder: Path, to: Path, dtype: torch.dtype) -> Path:
    return changed(folder, to, lambda weights: {name: tensor.to(dtype) for name, tensor in weights.items()})


def trained(folder: Path, settings: LearnerConfig, groups: list[Group]) -> Trainer:
    """After a cold start and two steps."""
    trainer = Trainer(settings, folder, seed=0)
    random = np.random.default_rng(0)
    ids = [random.integers(0, 64, 5).astype(np.int32) for _ in range(16)]
    train_sft(trainer, list(zip(ids[:8], ids[8:], strict=True)), SftConfig(batch_size=4))
    for _ in range(2):
        trainer.train_step(groups)
    return trainer


def test_merging_adds_what_peft_would_add(tiny_model: Path, make_groups: GroupFactory) -> None:
    trainer = trained(tiny_model, config(), make_groups())
    layers = adapted_layers(trainer.model)
    assert len(layers) == 14
    for layer in layers.values():
        weight, a, b = (p.weight.detach() for p in (layer.base_layer, layer.lora_A["default"], layer.lora_B["default"]))
        delta = layer.get_delta_weight("default")
        assert delta.abs().max() > 1e-4, "nothing was trained"
        assert torch.equal(merge(weight, a, b, 7 / 4), weight + delta)


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("learner", ["float32", "bfloat16"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]], ids=str)
def test_receivers_merge_bit_identical_to_what_the_learner_would_have_sent(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, base: torch.dtype, learner: str, targets: Any
) -> None:
    folder = in_dtype(tiny_model, tmp_path / "base", base)
    expected = dict(trained(folder, config("merged", learner, targets=targets), make_groups()).snapshot())
    sent = trained(folder, config("adapters", learner, targets=targets), make_groups()).snapshot()
    assert all(tensor.dtype == torch.float32 for _, tensor in sent)
    assert sum(t.nbytes for _, t in sent) < sum(t.nbytes for t in expected.values()) / 2
    found = dict(merged_weights(folder, sent, merging_for(folder, learner), CPU))
    assert found.keys() == expected.keys()
    start = load_file(folder / "model.safetensors")
    moved = 0
    for name, tensor in found.items():
        # What is frozen comes as the folder has it: receivers round it as they did when they loaded it.
        assert torch.equal(tensor.to(expected[name].dtype), expected[name]), name
        moved += not torch.equal(tensor.float(), start[name].float())
    assert moved == (14 if targets == "all-linear" else 4)


def test_a_resumed_learner_sends_the_same_adapters(tiny_model: Path, make_groups: GroupFactory, tmp_path: Path) -> None:
    trainer = trained(tiny_model, config(), make_groups())
    trainer.save(tmp_path / "checkpoint", {})
    resumed = Trainer(config(), tiny_model, seed=1)
    resumed.load(tmp_path / "checkpoint")
    for (name, tensor), (other, again) in zip(trainer.named_tensors(), resumed.named_tensors(), strict=True):
        assert name == other and torch.equal(tensor, again)


def test_weights_are_merged_one_at_a_time(tiny_model: Path, make_groups: GroupFactory) -> None:
    sent = trained(tiny_model, config(), make_groups()).snapshot()
    alive = {"now": 0, "most": 0}

    def counted(tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
        for _, tensor in tensors:
            alive["now"] += 1
            alive["most"] = max(alive["most"], alive["now"])
            weakref.finalize(tensor, lambda: alive.update(now=alive["now"] - 1))

    counted(merged_weights(tiny_model, sent, merging_for(tiny_model), CPU))
    assert alive == {"now": 0, "most": 1}


def test_a_folder_of_several_files_is_read_layer_by_layer(tiny_model: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(tmp_path, max_shard_size="30KB")
    files = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(files.values())) > 1
    single, sharded = BaseWeights(tiny_model), BaseWeights(tmp_path)
    assert list(single) == list(sharded) == sorted(files)
    assert all(torch.equal(single[name], sharded[name]) for name in single)
    assert single.fingerprint == sharded.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights | {"model.norm.weight": weights["model.norm.weight"] + 1},
        lambda weights: weights | {"model.norm.weight": weights["model.norm.weight"].bfloat16()},
        lambda weights: {name: tensor for name, tensor in weights.items() if name != "model.norm.weight"},
    ],
    ids=["value", "dtype", "missing"],
)
def test_receivers_refuse_adapters_of_another_base(tiny_model: Path, tmp_path: Path, change: Change) -> None:
    sent = Trainer(config(), tiny_model, seed=0).snapshot()
    other = changed(tiny_model, tmp_path / "other", change)
    with pytest.raises(ModelError, match="holds other weights here"):
        merged_weights(other, sent, merging_for(tiny_model), CPU)


def test_receivers_refuse_incomplete_adapters(tiny_model: Path) -> None:
    sent = Trainer(config(), tiny_model, seed=0).snapshot()
    merging = merging_for(tiny_model)
    with pytest.raises(ModelError, match="is incomplete"):
        merged_weights(tiny_model, sent[1:], merging, CPU)
    with pytest.raises(ModelError, match="no such layer"):
        merged_weights(tiny_model, [(f"other.{name}", tensor) for name, tensor in sent], merging, CPU)
    with pytest.raises(ModelError, match="are not"):
        merged_weights(tiny_model, [*sent, ("model.norm.weight", torch.ones(64))], merging, CPU)
    with pytest.raises(ModelError, match=r"no readable model\.safetensors"):
        merged_weights(tiny_model / "nowhere", sent, replace(merging, base=""), CPU)


def test_the_learner_refuses_a_base_that_receivers_do_not_have(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path
) -> None:
    last = "model.layers.1.mlp.up_proj.weight"

    def nudge(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights[last][-1, -1] += 1e-3  # beyond the page that the fingerprint reads
        return weights

    other = changed(tiny_model, tmp_path / "other", nudge)
    assert BaseWeights(other).fingerprint == BaseWeights(tiny_model).fingerprint
    trained(other, config(), make_groups()).save(tmp_path / "checkpoint", {})
    with pytest.raises(ModelError, match=last):
        Trainer(config(), tiny_model, seed=0).load(tmp_path / "checkpoint")
    Trainer(config("merged"), tiny_model, seed=0).load(tmp_path / "checkpoint")


def test_a_layer_that_receivers_cannot_merge_is_no_target(tmp_path: Path) -> None:
    untied = small_llama(tmp_path, 64, num_hidden_layers=1, num_attention_heads=4, tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"embed_tokens \(Embedding\)"):
        Trainer(config(targets=["embed_tokens"]), untied, seed=0)
    merged = dict(Trainer(config("merged", targets=["embed_tokens"]), untied, seed=0).named_tensors())
    assert torch.equal(merged["model.embed_tokens.weight"], BaseWeights(untied)["model.embed_tokens.weight"])
