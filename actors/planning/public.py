"""Public figures: sizes of well-known models, and what accelerators can do. Nothing here was measured by us.

Models: config.json of the repository of that name on huggingface.co. The counts of parameters that follow are those
of the model cards and reports: Qwen2.5 (2412.15115), Llama 3 (2407.21783), DeepSeek-V3 (2412.19437: 671 G, 37 G active)
and R1 (2501.12948), which has V3's architecture.
Accelerators: NVIDIA's data sheets of A100 80 GB SXM, H100 SXM and H200 SXM; dense bfloat16, without sparsity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def _qwen2(hidden: int, layers: int, heads: int, kv: int, width: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    return {"model_type": "qwen2"} | sizes(hidden, layers, heads, kv, width, vocabulary, tied)


def _llama(hidden: int, layers: int, heads: int, kv: int, width: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    return {"model_type": "llama"} | sizes(hidden, layers, heads, kv, width, vocabulary, tied)


def sizes(hidden: int, layers: int, heads: int, kv: int, width: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    """They under the names that `transformers` gives them."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": width,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


SMOLLM2 = _llama(576, 30, 9, 3, 1536, 49152, tied=True)

_QWEN_1_5B = _qwen2(1536, 28, 12, 2, 8960, 151936, tied=True)
_QWEN_7B = _qwen2(3584, 28, 28, 4, 18944, 152064, tied=False)
_QWEN_32B = _qwen2(5120, 64, 40, 8, 27648, 152064, tied=False)
_LLAMA_70B = _llama(8192, 80, 64, 8, 28672, 128256, tied=False)
_DEEPSEEK_V3 = sizes(7168, 61, 128, 128, 18432, 129280, tied=False) | {
    "model_type": "deepseek_v3",
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
#: By the last part of the name on the hub, in lower case. The layer of DeepSeek's multi-token prediction is left out.
PUBLIC: Mapping[str, Mapping[str, Any]] = {
    "smollm2-135m": SMOLLM2,
    "smollm2-135m-instruct": SMOLLM2,
    "qwen2.5-1.5b": _QWEN_1_5B,
    "qwen2.5-1.5b-instruct": _QWEN_1_5B,
    "qwen2.5-7b": _QWEN_7B,
    "qwen2.5-7b-instruct": _QWEN_7B,
    "qwen2.5-32b": _QWEN_32B,
    "qwen2.5-32b-instruct": _QWEN_32B,
    "llama-3-70b": _LLAMA_70B,
    "meta-llama-3-70b": _LLAMA_70B,
    "meta-llama-3-70b-instruct": _LLAMA_70B,
    "llama-3.1-70b": _LLAMA_70B,
    "deepseek-v3-base": _DEEPSEEK_V3,
    "deepseek-v3": _DEEPSEEK_V3,
    "deepseek-r1-zero": _DEEPSEEK_V3,
    "deepseek-r1": _DEEPSEEK_V3,
}


@dataclass(frozen=True, slots=True)
class Hardware:
    """One device.

    Attributes:
        flops: dense bfloat16 (FLOP/s).
        memory: of the device (bytes).
        bandwidth: of that memory (bytes/s).
        host: of its link to the host's memory, one way (bytes/s).
        network: of the link by which a rank of the learner sends weights, or a generator receives them (bytes/s).
        step_seconds: least time of one engine step whatever is in it: launches, sampling, reductions (s).
        source: of these figures.
    """

    flops: float
    memory: float
    bandwidth: float
    host: float
    network: float
    step_seconds: float
    source: str


_NIC = "one 400 Gbit/s adapter a device is assumed"
#: By name. `cpu` is one core of a server with AMX, as the checks of this repository have had them.
HARDWARE: Mapping[str, Hardware] = {
    "a100": Hardware(312e12, 80e9, 2.039e12, 32e9, 25e9, 5e-3, "NVIDIA's data sheet of A100 SXM 80 GB; 200 Gbit/s"),
    "h100": Hardware(989e12, 80e9, 3.35e12, 64e9, 50e9, 5e-3, f"NVIDIA's data sheet of H100 SXM; {_NIC}"),
    "h200": Hardware(989e12, 141e9, 4.8e12, 64e9, 50e9, 5e-3, f"NVIDIA's data sheet of H200 SXM; {_NIC}"),
    "cpu": Hardware(0.2e12, 8e9, 10e9, 10e9, 1e9, 1e-3, "an assumption for one core; measure with --from"),
}
