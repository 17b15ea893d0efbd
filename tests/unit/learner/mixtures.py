"""Tiny mixtures of experts, and groups that say which experts their tokens went to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from learner import Group
from tests.unit.learner.conftest import VOCABULARY

LAYERS, TOP_K, EXPERTS = 3, 2, 6
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS,
    "num_attention_heads": 2, "num_key_value_heads": 2, "moe_intermediate_size": 24, "num_experts_per_tok": TOP_K,
}  # fmt: skip
LATENT = {
    "n_routed_experts": EXPERTS, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "norm_topk_prob": True, "routed_scaling_factor": 2.5,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {"model_type": "qwen3_moe", "num_experts": EXPERTS, "head_dim": 16, "norm_topk_prob": True},
    "qwen3, undivided": {"model_type": "qwen3_moe", "num_experts": EXPERTS, "head_dim": 16, "norm_topk_prob": False},
    "mixtral": {"model_type": "mixtral", "num_local_experts": EXPERTS},
    "deepseek": {"model_type": "deepseek_v3", **LATENT},
}


def written(folder: Path, name: str) -> Path:
    """One of `MODELS`, sharp enough to have an opinion; DeepSeek's balances the load by biases."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**(SIZES | MODELS[name])))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
        for key, buffer in model.named_buffers():
            if key.endswith("e_score_correction_bias"):
                buffer.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def random_experts(tokens: int, seed: int = 1) -> np.ndarray:
    """uint8 [N, L K], K different ones in each layer."""
    random = np.random.default_rng(seed)
    chosen = [[random.choice(EXPERTS, TOP_K, replace=False) for _ in range(LAYERS)] for _ in range(tokens)]
    return np.array(chosen, np.uint8).reshape(tokens, LAYERS * TOP_K)


def routed(groups: Sequence[Group], seed: int = 3) -> list[Group]:
    """The groups with random experts, as an engine gives them."""
    made = []
    for group in groups:
        tokens = [len(group.prompt), *(len(c.tokens) - 1 for c in group.completions)]
        parts = [random_experts(n, seed + i) for i, n in enumerate(tokens)]
        own = zip(group.completions, parts[1:], strict=True)
        completions = tuple(replace(c, routed_experts=part) for c, part in own)
        made.append(replace(group, completions=completions, routed_experts=parts[0]))
    return made
