"""Sizes of a model, from its config.json alone: parameters, active parameters, key-value cache."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.config.model import EXPERT_COUNTS, FolderModel, ModelConfig, TinyModel
from actors.errors import RecipeError
from actors.models.tiny import VOCABULARY
from actors.planning.public import PUBLIC, SMOLLM2

#: `model_type` of the configurations that are understood; others have parts that would be counted wrongly.
KNOWN_TYPES = frozenset({"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "smollm3", "deepseek_v3"})


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder of attention and gated MLPs (Touvron et al. 2023), with experts or without.

    Attributes:
        layers, hidden, vocabulary: L, h, V.
        intermediate: width of a dense MLP.
        heads, kv_heads, head: attention heads, those of keys and values, and the size of one.
        tied: whether the output layer is the embedding.
        qkv_bias, output_bias, qk_norm: whether the projections have biases, and queries and keys a norm of their own.
        experts, experts_per_token, expert_intermediate: routed experts of a layer, how many a token uses, their width.
        shared_intermediate: width of what every token uses beside them.
        dense_layers: how many layers have a dense MLP instead of experts.
        q_rank, kv_rank, rope_head, value_head: of latent attention (DeepSeek-AI 2024, V2, section 2.1); `head` is then
            the size of a head without its rotary part. kv_rank 0: the attention is the ordinary one.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    shared_intermediate: int = 0
    dense_layers: int = 0
    q_rank: int = 0
    kv_rank: int = 0
    rope_head: int = 0
    value_head: int = 0

    # ---------------------------------------------------------------- parameters

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and of an output layer of its own."""
        return self.vocabulary * self.hidden

    @property
    def attention(self) -> int:
        """Parameters of one layer's attention."""
        h, n, d = self.hidden, self.heads, self.head
        if not self.kv_rank:
            rows = (n + 2 * self.kv_heads) * d
            biases = (rows if self.qkv_bias else 0) + (h if self.output_bias else 0)
            return h * rows + n * d * h + biases + (2 * d if self.qk_norm else 0)
        query = d + self.rope_head
        q = h * self.q_rank + self.q_rank + self.q_rank * n * query if self.q_rank else h * n * query
        kv = h * (self.kv_rank + self.rope_head) + self.kv_rank + self.kv_rank * n * (d + self.value_head)
        return q + kv + n * self.value_head * h

    @property
    def moe_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def expert(self) -> int:
        """Parameters of one routed expert."""
        return 3 * self.hidden * self.expert_intermediate

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self._with_experts(self.experts)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token passes through, embedding and output layer among them."""
        return self._with_experts(self.experts_per_token)

    def touched_parameters(self, tokens: int) -> float:
        """Parameters that at least one of so many tokens passes through, where each picks its experts evenly."""
        idle = (1 - self.experts_per_token / self.experts) ** tokens if self.experts else 0.0
        return self._with_experts(0) + self.moe_layers * self.expert * self.experts * (1 - idle)

    @property
    def largest_layer(self) -> int:
        """Parameters of the largest layer."""
        return self._layer(self.experts) if self.experts else self._layer(0)

    @property
    def root(self) -> int:
        """Parameters outside of the layers."""
        return self.embedding * (1 if self.tied else 2) + self.hidden

    def _with_experts(self, count: int) -> int:
        dense = self.layers - self.moe_layers
        return self.root + dense * self._layer(None) + self.moe_layers * self._layer(count)

    def _layer(self, experts: int | None) -> int:
        shared = self.attention + 2 * self.hidden
        if not self.experts or experts is None:
            return shared + 3 * self.hidden * self.intermediate
        router = self.hidden * self.experts
        return shared + router + 3 * self.hidden * self.shared_intermediate + experts * self.expert

    # ---------------------------------------------------------------- what a token takes

    @property
    def mlp_width(self) -> int:
        """Width of the gated MLPs that a token passes through in the widest layer."""
        routed = self.experts_per_token * self.expert_intermediate + self.shared_intermediate
        return max(routed, self.intermediate if self.dense_layers or not self.experts else 0)

    @property
    def query_width(self) -> int:
        """Width of a token's queries over all heads."""
        return self.heads * (self.head + self.rope_head)

    @property
    def value_width(self) -> int:
        """Width of a token's values over all heads that attend."""
        return self.heads * (self.value_head or self.head)

    @property
    def attention_width(self) -> float:
        """Width of the heads, all layers together, as `learner.model.flops.attention_flops` has it."""
        return self.layers * (self.query_width + self.value_width) / 2

    @property
    def key_value_width(self) -> int:
        """Width of a token's keys and values in a training pass, one layer."""
        if self.kv_rank:
            return self.heads * (self.head + self.rope_head + self.value_head)
        return 2 * self.kv_heads * self.head

    @property
    def cache_width(self) -> int:
        """Numbers that an engine caches of one token, all layers: keys and values, or their common latent."""
        return self.layers * (self.kv_rank + self.rope_head if self.kv_rank else 2 * self.kv_heads * self.head)


def architecture(model: ModelConfig) -> ModelShape:
    """The architecture of a recipe's model, without the network: from its folder, or from the table of public figures.

    Raises:
        RecipeError: neither knows it, or its config.json is not understood.
    """
    if isinstance(model, TinyModel):
        head = model.hidden_size // model.heads
        return ModelShape(
            layers=model.layers,
            hidden=model.hidden_size,
            intermediate=model.intermediate_size,
            heads=model.heads,
            kv_heads=model.heads,
            head=head,
            vocabulary=VOCABULARY,
        )
    if not isinstance(model, FolderModel):
        return of_config(SMOLLM2, "smollm2")
    if (folder := model.folder) is not None:
        return of_config(_read(folder / "config.json"), str(folder))
    if (found := PUBLIC.get(model.path.rpartition("/")[2].lower())) is not None:
        return of_config(found, model.path)
    raise RecipeError(
        f"model.path: {model.path} is no folder here, and none of the models whose figures are known without the "
        f"network ({', '.join(PUBLIC)}); name a folder with its config.json"
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"model.path: {path} cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise RecipeError(f"model.path: {path} is no configuration of a model")
    return found


def of_config(config: Mapping[str, Any], name: str) -> ModelShape:
    """The architecture that a config.json of `transformers` describes.

    Raises:
        RecipeError: it is of another kind, or lacks a size.
    """
    kind = config.get("model_type")
    if kind not in KNOWN_TYPES:
        raise RecipeError(f"{name}: a plan knows the sizes of {', '.join(sorted(KNOWN_TYPES))}, not of {kind}")
    try:
        sizes = _sizes(config) | _experts(kind, config) | _latent(kind, config)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise RecipeError(f"{name}: its configuration lacks a size, or has a wrong one ({error})") from error
    biased = bool(config.get("attention_bias", False))
    return ModelShape(
        **sizes,
        tied=bool(config.get("tie_word_embeddings", kind == "smollm3")),
        qkv_bias=kind == "qwen2" or biased,
        output_bias=biased,
        qk_norm=kind.startswith("qwen3"),
    )


def _sizes(config: Mapping[str, Any]) -> dict[str, int]:
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    return {
        "layers": int(config["num_hidden_layers"]),
        "hidden": hidden,
        "intermediate": int(config["intermediate_size"]),
        "heads": heads,
        "kv_heads": int(config.get("num_key_value_heads") or heads),
        "head": int(config.get("head_dim") or hidden // heads),
        "vocabulary": int(config["vocab_size"]),
    }


def _experts(kind: str, config: Mapping[str, Any]) -> dict[str, int]:
    if kind not in EXPERT_COUNTS:
        return {}
    own_width = "intermediate_size" if kind == "mixtral" else "moe_intermediate_size"
    experts, chosen, width = (int(config[name]) for name in (EXPERT_COUNTS[kind], "num_experts_per_tok", own_width))
    shared = int(config.get("n_shared_experts") or 0) if kind == "deepseek_v3" else 0
    return {
        "experts": experts,
        "experts_per_token": chosen,
        "expert_intermediate": width,
        "shared_intermediate": shared * width,
        "dense_layers": _dense_layers(kind, config),
    }


def _dense_layers(kind: str, config: Mapping[str, Any]) -> int:
    if kind == "deepseek_v3":
        return int(config.get("first_k_dense_replace") or 0)
    every, dense = int(config.get("decoder_sparse_step") or 1), config.get("mlp_only_layers") or ()
    return sum(layer in dense or (layer + 1) % every != 0 for layer in range(int(config["num_hidden_layers"])))


def _latent(kind: str, config: Mapping[str, Any]) -> dict[str, int]:
    if kind != "deepseek_v3":
        return {}
    return {
        "q_rank": int(config.get("q_lora_rank") or 0),
        "kv_rank": int(config["kv_lora_rank"]),
        "rope_head": int(config["qk_rope_head_dim"]),
        "value_head": int(config["v_head_dim"]),
        "head": int(config["qk_nope_head_dim"]),
    }
