"""Model folders that cannot be trained are refused with what to do, and the others are loaded without chance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from benchmarks.models import small_llama
from learner import LearnerConfig, ModelError, Trainer
from learner.model.loading import load, longest_sequence
from learner.model.weights import export

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_llama(tmp_path / "model", 64, num_hidden_layers=1, num_attention_heads=4, tie_word_embeddings=False)


def _change(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def _drop_head(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if k != "lm_head.weight"}, folder / "model.safetensors", {"format": "pt"}
    )


def _only_gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.Q4_0.gguf")


def _own_code(folder: Path) -> None:
    _change(folder, model_type="mine", architectures=["Mine"], auto_map={"AutoConfig": "mine.MineConfig"})
    (folder / "mine.py").write_text("raise SystemExit('this was run')")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "adapter_config.json").write_text("{}"), "holds adapters .* merge_and_unload"),
        (lambda f: (f / "model.safetensors").unlink(), "no file named model.safetensors"),
        (_only_gguf, "GGUF weights, which are for inference"),
        (_own_code, "Python code in the folder, which is never run"),
        (lambda f: _change(f, quantization_config={"quant_method": "gptq", "bits": 4}), r"quantised \(gptq\)"),
        (lambda f: _change(f, quantization_config={"quant_method": "fp8"}), r"quantised \(fp8\)"),
        (lambda f: _change(f, layer_types=["linear_attention"]), "layers of the type linear_attention mix tokens"),
        (_drop_head, "lacks 1 of the weights .* lm_head.weight"),
        (lambda f: _change(f, tie_word_embeddings=True), "the files hold different weights for the two"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be loaded"),
        (lambda f: _change(f, hidden_size=60), "cannot be loaded"),
        (lambda f: _change(f, model_type="t5"), "T5|t5"),
    ],
)
def test_what_cannot_be_trained_is_refused(folder: Path, damage: Callable[[Path], Any], says: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=f"(?s)model.*{says}") as error:
        load(AutoModelForCausalLM, folder, CPU)
    assert "\n" not in str(error.value)


def test_a_model_of_several_parts_is_refused_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "vision_config": {}}))
    with pytest.raises(ModelError, match=r"qwen2_5_vl cannot be trained: it is a model of several parts .*vision"):
        load(AutoModelForCausalLM, tmp_path, CPU)


def test_training_is_without_dropout_whatever_the_folder_says(tmp_path: Path) -> None:
    """Two passes over the same tokens agree, and the exported folder keeps the rates of the original."""
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=64, resid_pdrop=0.5, attn_pdrop=0.5)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "gpt2")
    model = load(AutoModelForCausalLM, tmp_path / "gpt2", CPU).train()
    ids = torch.arange(20)[None]
    assert torch.equal(model(ids).logits, model(ids).logits)
    export(model, dict(model.named_parameters()), tmp_path / "gpt2", tmp_path / "exported")
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["resid_pdrop"] == 0.5


def test_settings_of_sampling_in_the_folder_do_not_keep_a_model_from_being_saved(folder: Path, tmp_path: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.2, "do_sample": False}))
    config = LearnerConfig(dtype="float32", device="cpu")
    Trainer(config, folder, seed=0).export(tmp_path / "exported")
    exported = tmp_path / "exported" / "generation_config.json"
    assert exported.read_text() == (folder / "generation_config.json").read_text()


def test_weights_in_torchs_own_format_are_loaded(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    model = load(AutoModelForCausalLM, folder, CPU)
    assert torch.equal(model.lm_head.weight, tensors["lm_head.weight"])


@pytest.mark.parametrize(
    ("rope", "longest"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, None),
        ({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}, None),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}, 128),
        (
            {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
                "short_factor": [1.0] * 8,
                "long_factor": [2.0] * 8,
            },
            32,
        ),
    ],
)
def test_positions_that_depend_on_length_bound_it(rope: dict[str, Any], longest: int | None) -> None:
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, max_position_embeddings=128, rope_parameters=rope)
    assert longest_sequence(config) == longest
