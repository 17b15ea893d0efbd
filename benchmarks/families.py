"""Tiny random models of the families that are trained, made from their configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_DEEPSEEK = {
    "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 512,
    "q_lora_rank": 24, "qk_rope_head_dim": 64, "qk_nope_head_dim": 16, "v_head_dim": 16, "num_key_value_heads": 4,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid",
}  # fmt: skip
#: Variants by name: the family, and what differs from two layers of 64 with four heads.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biased": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "qwen3-moe": ("qwen3_moe", {"num_experts": 4, **_EXPERTS}),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
    "gemma3": ("gemma3_text", {}),
    "phi3": ("phi3", {}),
    "olmo2": ("olmo2", {}),
    "smollm3": ("smollm3", {}),
    "gpt-neox": ("gpt_neox", {}),
    "deepseek-v3": ("deepseek_v3", {**_DEEPSEEK, **_EXPERTS}),
}


def family(
    name: str, folder: Path, vocabulary: int = 128, heads: int = 16, hidden: int = 64, shard_size: str = "1GB"
) -> Path:
    """Write the variant `name` into `folder`, sharded by `shard_size`; always the same weights, and no bias is zero."""
    kind, own = FAMILIES[name]
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    if kind in {"qwen3", "qwen3_moe", "gemma3_text"}:
        sizes["head_dim"] = heads
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(sizes | own)))
    for _, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.any():  # biases, also those of a router: what is lost shows
            tensor.data.normal_(std=0.02)
    model.save_pretrained(folder, max_shard_size=shard_size)
    return folder
