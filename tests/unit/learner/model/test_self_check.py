"""Every architecture is either packed rightly or refused with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from learner import LearnerConfig, ModelError
from learner.model.packing import Segment, pack
from learner.model.policy import build_policy

CPU = torch.device("cpu")
CONFIG = LearnerConfig(dtype="float32", device="cpu")
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12}
LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
GROUPED = {"n_group": 1, "topk_group": 1, "n_routed_experts": 4, "first_k_dense_replace": 1}


def _written(folder: Path, kind: str, **fields: Any) -> Path:
    """A model with weights that are large enough for every part of it to matter."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(getattr(transformers, kind)(**(SIZES | fields)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
        if (bias := getattr(model.get_output_embeddings(), "bias", None)) is not None:
            bias.normal_(0, 0.15)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("LlamaConfig", {"attention_dropout": 0.3}),
        ("MistralConfig", {"sliding_window": 4}),
        ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 4}),
        ("Qwen3MoeConfig", {"head_dim": 8, "num_experts": 4, **EXPERTS}),
        (
            "DeepseekV3Config",
            {"num_key_value_heads": 4, "head_dim": 8, "n_shared_experts": 1, **EXPERTS, **LATENT, **GROUPED},
        ),
        ("GPT2Config", {"resid_pdrop": 0.3, "n_inner": 48}),
        ("Glm4Config", {"head_dim": 8}),
        ("GraniteConfig", {"attention_multiplier": 0.3, "residual_multiplier": 0.5}),
    ],
)
def test_packed_completions_have_the_logprobs_of_the_models_own_pass(
    tmp_path: Path, kind: str, fields: dict[str, Any]
) -> None:
    folder = _written(tmp_path, kind, **fields)
    random = np.random.default_rng(1)
    prompt, *completions = (random.integers(0, 96, n).astype(np.int32) for n in (8, 13, 10))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    expected = []
    for completion in completions:
        ids = torch.from_numpy(np.concatenate((prompt, completion)).astype(np.int64))[None]
        logprobs = plain(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected.append(logprobs.gather(1, ids[0, len(prompt) :, None])[:, 0])
    found, _ = build_policy(folder, CONFIG, CPU)(pack([Segment(prompt, tuple(completions), (0, 1))]))
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("GptOssConfig", {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}, "asks for s_aux"),
        ("Gemma2Config", {"head_dim": 8, "attn_logit_softcapping": 5.0}, "asks for softcap"),
        ("Qwen3_5TextConfig", {"layer_types": ["linear_attention", "full_attention"], **LINEAR}, "linear_attention"),
        ("Lfm2Config", {"layer_types": ["conv", "full_attention"]}, "layers of the type conv"),
        ("Llama4TextConfig", {"head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48}, "chunked_attention"),
        ("BloomConfig", {"n_head": 4, "n_layer": 2}, "its attention is code of its own"),
        ("MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 2}, "its attention is code of its own"),
        ("PhiConfig", {}, "its output layer has a bias"),
        ("PhimoeConfig", {"num_local_experts": 2, "sliding_window": 32}, "masks distant tokens, but not by a sliding"),
        ("CohereConfig", {"logit_scale": 0.1}, r"scales or caps its logits \(logit_scale: 0.1\)"),
        ("BertConfig", {"is_decoder": False}, "the outcome of packed sequences differs"),
    ],
)
def test_a_model_that_does_more_is_refused_with_the_reason(
    tmp_path: Path, kind: str, fields: dict[str, Any], reason: str
) -> None:
    folder = _written(tmp_path, kind, **fields)
    with pytest.raises(ModelError, match=f"cannot be trained.*{reason}") as error:
        build_policy(folder, CONFIG, CPU)
    assert str(tmp_path) in str(error.value)


def test_a_sequence_whose_length_would_move_the_others_is_refused(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    policy = build_policy(_written(tmp_path, "LlamaConfig", rope_parameters=rope), CONFIG, CPU)
    prompt = np.zeros(60, np.int32)
    policy(pack([Segment(prompt, (np.zeros(5, np.int32),), (0,))]))
    with pytest.raises(ModelError, match="a sequence of 65 tokens: beyond 64 the model's positions"):
        policy(pack([Segment(prompt, (np.zeros(6, np.int32),), (0,))]))
