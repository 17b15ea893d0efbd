"""Counts of parameters, against published ones and against what `transformers` makes of the same configuration."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from actors.config.model import EXPERT_COUNTS, FolderModel, SmolLm2Model, TinyModel
from actors.errors import RecipeError
from actors.planning.architectures import KNOWN_TYPES, architecture, of_config

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
LATENT = {
    "n_routed_experts": 6,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "first_k_dense_replace": 1,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "num_key_value_heads": 4,
    "n_group": 1,
    "topk_group": 1,
}


@pytest.mark.parametrize(
    ("name", "parameters", "active"),
    [
        ("Qwen/Qwen2.5-1.5B", 1.544e9, 1.544e9),
        ("Qwen/Qwen2.5-7B", 7.616e9, 7.616e9),
        ("Qwen/Qwen2.5-32B", 32.76e9, 32.76e9),
        ("meta-llama/Meta-Llama-3-70B", 70.55e9, 70.55e9),
        ("deepseek-ai/DeepSeek-R1", 671e9, 37.6e9),
    ],
)
def test_well_known_models_have_as_many_parameters_as_was_published(
    name: str, parameters: float, active: float
) -> None:
    found = architecture(FolderModel(path=name))
    assert found.parameters == pytest.approx(parameters, rel=1e-3)
    assert found.active_parameters == pytest.approx(active, rel=5e-3)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "attention_bias": True, "head_dim": 20}),
        ("mistral", {}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 32}),
        ("smollm3", {"tie_word_embeddings": True, "pad_token_id": 0}),
        ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
        ("qwen3_moe", {**EXPERTS, "head_dim": 16}),
        ("qwen3_moe", {**EXPERTS, "head_dim": 16, "mlp_only_layers": [1]}),
        ("qwen3_moe", {**EXPERTS, "head_dim": 16, "decoder_sparse_step": 2, "mlp_only_layers": [0]}),
        ("deepseek_v3", LATENT),
        ("deepseek_v3", {**LATENT, "q_lora_rank": None}),
    ],
)
def test_parameters_are_those_of_the_real_model(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from learner.model.experts import idle_parameters

    config = AutoConfig.for_model(kind, **{**SMALL, **changes})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **SMALL, **changes}))
    found = architecture(FolderModel(path=str(tmp_path)))
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.active_parameters == found.parameters - idle_parameters(model)


def test_models_of_our_own_are_counted_too() -> None:
    assert architecture(SmolLm2Model(kind="smollm2")).parameters == 134_515_008
    assert architecture(TinyModel(kind="tiny")).parameters == 934_848


def test_a_token_touches_its_experts_and_many_tokens_all() -> None:
    found = of_config({"model_type": "deepseek_v3", **SMALL, **LATENT}, "small")
    assert found.touched_parameters(1) == pytest.approx(found.active_parameters)
    assert found.active_parameters < found.touched_parameters(3) < found.parameters
    assert found.touched_parameters(1000) == pytest.approx(found.parameters)


def test_the_cache_of_latent_attention_is_the_latent() -> None:
    """DeepSeek-V3 keeps 576 numbers a token and layer (2412.19437, section 2.1.1)."""
    assert architecture(FolderModel(path="deepseek-ai/DeepSeek-V3")).cache_width == 61 * 576
    assert architecture(FolderModel(path="Qwen/Qwen2.5-7B")).cache_width == 28 * 2 * 4 * 128


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "mamba"}, "not of mamba"),
        ({"model_type": "llama", "hidden_size": 64}, "lacks a size"),
        ({"model_type": "llama", **SMALL, "num_attention_heads": 0}, "wrong one"),
    ],
)
def test_what_cannot_be_counted_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        of_config(config, "it")


def test_a_name_that_nobody_knows_says_which_are_known() -> None:
    with pytest.raises(RecipeError, match=r"qwen2\.5-7b"):
        architecture(FolderModel(path="nobody/nothing"))


@pytest.mark.parametrize("kind", sorted(KNOWN_TYPES))
def test_what_counts_experts_is_listed_for_each_known_type_that_has_some(kind: str) -> None:
    """Of each type by the settings that `transformers` knows of it."""
    from transformers import AutoConfig

    settings = AutoConfig.for_model(kind)
    counts = {
        name for name in (*settings.to_dict(), *settings.attribute_map) if re.search(r"num_.*experts$|n_routed", name)
    }
    assert (kind in EXPERT_COUNTS) == bool(counts), counts
    assert not counts or EXPERT_COUNTS[kind] in counts
