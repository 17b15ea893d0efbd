"""Two Gloo ranks load a model with a large vocabulary: neither ever holds the whole of it."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.processes import peak_bytes
from learner import LearnerConfig, ObjectiveConfig
from learner.config import LoraSettings
from learner.errors import ModelError
from learner.model import loading
from learner.model.adapters import add_adapters
from learner.model.policy import build_policy
from tests.unit.learner.distributed.two_ranks import free_port, join

CONFIG = LearnerConfig(dtype="float32", device="cpu")
ADAPTERS = CONFIG.model_copy(
    update={
        "lora": LoraSettings(rank=4, targets=["q_proj", "o_proj"]),
        "objective": ObjectiveConfig(kl="k3", kl_coefficient=0.1),
    }
)
EMBEDDING = ADAPTERS.model_copy(update={"lora": LoraSettings(rank=4, targets=["v_proj", "embed_tokens"])})
CPU = torch.device("cpu")
VOCABULARY = 200_000
#: Of its bytes in float32. A rank has its half and the mapped pages of its half of the files in bfloat16, a quarter;
#: each loading the whole, it had one and a half.
SHARE = 0.9
KINDS: dict[str, dict[str, Any]] = {
    "tied": {"model_type": "llama", "tie_word_embeddings": True},
    "biased": {"model_type": "qwen2", "tie_word_embeddings": False},
    "experts": {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
}


def _written(folder: Path, dtype: torch.dtype, **settings: Any) -> Path:
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model(**{**sizes, "intermediate_size": 96, "vocab_size": 97, **settings})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.1)
    model.to(dtype).save_pretrained(folder)
    return folder


def _require_same_with_adapters(folder: Path, config: LearnerConfig, whole: Any) -> None:
    """Weights, buffers and adapters are what they are where one rank has the whole model."""
    torch.manual_seed(3)
    model = build_policy(folder, config, CPU).model
    torch.rand(9)  # whatever was drawn meanwhile
    assert config.lora is not None
    add_adapters(whole, config.lora, CPU, reference=True)
    expected = dict(whole.named_parameters())
    own = {n: p.full_tensor() for n, p in model.named_parameters()}
    assert own.keys() == expected.keys()
    assert [n for n, p in expected.items() if not torch.equal(own[n], p)] == [], folder.name
    assert any("lora_A.default" in n and p.any() for n, p in expected.items())
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in expected.items() if p.requires_grad} != set()
    buffers = dict(model.named_buffers())
    assert all(torch.equal(buffers[n], b) for n, b in whole.named_buffers())


def _rank(rank: int, port: int, folder: Path) -> None:
    join(rank, port, 120)
    for name in KINDS:  # also imports whatever loading needs, before memory is looked at
        policy = build_policy(folder / name, CONFIG, CPU)
        whole = loading.load(AutoModelForCausalLM, folder / name, CPU)
        expected = dict(whole.named_parameters())
        own = {n: p.full_tensor() for n, p in policy.model.named_parameters()}
        assert own.keys() == expected.keys()
        assert all(torch.equal(own[n], p) for n, p in expected.items()), name
        _require_same_with_adapters(folder / name, EMBEDDING if name == "biased" else ADAPTERS, whole)
        del policy, whole, expected, own
    for name, config in {"all": CONFIG, "adapters": ADAPTERS}.items():
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of what follows
        before = peak_bytes(os.getpid())
        policy = build_policy(folder / "large", config, CPU)
        grown = peak_bytes(os.getpid()) - before
        count = sum(p.numel() for p in policy.model.parameters())
        (folder / f"{name}-{rank}.json").write_text(json.dumps({"grown": grown, "whole": 4 * count}))
        del policy
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, int]]]:
    folder = tmp_path_factory.mktemp("models")
    for name, settings in KINDS.items():
        _written(folder / name, torch.float32, **settings)
    large = {"model_type": "llama", "vocab_size": VOCABULARY, "tie_word_embeddings": False}
    _written(folder / "large", torch.bfloat16, **large)
    mp.spawn(_rank, args=(free_port(), folder), nprocs=2)  # type: ignore[no-untyped-call]
    return {
        name: [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]
        for name in ("all", "adapters")
    }


@pytest.mark.parametrize("trained", ["all", "adapters"])
def test_no_rank_holds_more_than_its_shards(loaded: dict[str, list[dict[str, int]]], trained: str) -> None:
    for rank in loaded[trained]:
        assert rank["whole"] > 4 * 2 * 64 * VOCABULARY
        assert 0.4 < rank["grown"] / rank["whole"] < SHARE


def test_a_slice_has_a_layer_of_each_kind(tmp_path: Path) -> None:
    types = ["full_attention", "full_attention", "sliding_attention", "full_attention"]
    settings = {"num_hidden_layers": 4, "layer_types": types, "sliding_window": 8, "use_sliding_window": True}
    folder = _written(tmp_path, torch.float32, model_type="qwen2", vocab_size=2000, **settings)
    model = loading.load_slice(AutoModelForCausalLM, folder, CPU)
    whole = dict(loading.load(AutoModelForCausalLM, folder, CPU).named_parameters())
    assert len(model.base_model.layers) == 3
    assert len(model.get_input_embeddings().weight) == loading.SLICE_ROWS
    for name, p in model.named_parameters():
        assert torch.equal(p, whole[name][: len(p)])


def test_a_folder_without_safetensors_has_no_slice(tmp_path: Path) -> None:
    folder = _written(tmp_path, torch.float32, model_type="llama")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        loading.load_slice(AutoModelForCausalLM, folder, CPU)
