"""Model folders, loaded as the learner needs them: whole, in float32, without chance, and without code of their own."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, GenerationConfig

from learner.errors import ModelError

#: Names of a configuration's rates of dropout, of dropped layers and of routing noise contain one of these.
CHANCE = ("drop", "jitter")
#: What the layers of a model may be. Others mix tokens outside of an attention that can be packed.
LAYER_TYPES = frozenset({"full_attention", "sliding_attention", "mlp", "moe"})
#: Positions beyond the original length change the frequencies of all tokens of a pass.
LENGTH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})
#: Held while `transformers` loads a model: it changes its own classes meanwhile, and of two threads that do so at once
#: the one may put back what the other has changed, so that no weights are tied any more in this process.
LOADING = threading.Lock()


def load(auto: Any, path: str | Path, device: torch.device, **options: Any) -> Any:
    """A model in float32, with eager attention and every dropout rate at zero.

    A rate above zero would make the log-probabilities of the policy random, and no engine samples with one.

    Args:
        auto: class of `transformers` that loads it.
        path: Hugging Face folder, or a name on the hub.
        device: where it goes.
        options: set in the model's configuration.

    Raises:
        ModelError: where there is no model, or one that cannot be trained.
    """
    folder = Path(path)
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{path} holds adapters (PEFT); merge them into their base with merge_and_unload first")
    local = folder.exists()
    try:
        config = AutoConfig.from_pretrained(str(path), local_files_only=local, trust_remote_code=False, **options)
        if reason := untrainable(config):
            raise ModelError(f"{path}: {config.model_type} cannot be trained: {reason}")
        _without_chance(config)
        with LOADING:
            model, found = auto.from_pretrained(
                str(path),
                config=config,
                dtype=torch.float32,
                attn_implementation="eager",
                local_files_only=local,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, ImportError, AttributeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be loaded: {_advice(folder, error)}") from error
    _require_whole(model, path, found["missing_keys"])
    model.config.use_cache = False
    if model.can_generate() and (own := model.generation_config) is not None:  # reward models generate nothing
        # A folder's settings of sampling decide nothing here, and an inconsistent file would keep the model from being
        # saved; the file itself goes into exports as it is.
        ids = {key: getattr(own, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**ids)  # type: ignore[no-untyped-call]
    return model.to(device)


def untrainable(config: Any) -> str | None:
    """Why a model of this configuration cannot be trained here, as far as its configuration tells."""
    text = config.get_text_config()
    if quantization := getattr(config, "quantization_config", None):
        method = quantization.get("quant_method", "") if isinstance(quantization, dict) else quantization.quant_method
        return f"its weights are quantised ({getattr(method, 'value', method)}); take the folder they were made from"
    if text is not config:
        parts = ", ".join(sorted(set(config.sub_configs)))
        return f"it is a model of several parts ({parts}), and only text is trained; take a text model"
    if config.is_encoder_decoder:
        return "it is an encoder-decoder; take a decoder"
    kinds = dict.fromkeys(getattr(config, "layer_types", None) or ())
    if others := [kind for kind in kinds if kind not in LAYER_TYPES]:
        return f"layers of the type {', '.join(others)} mix tokens outside of attention that can be packed"
    if getattr(config, "index_topk", None):
        return "its attention is sparse (index_topk), which packed training does not know"
    if getattr(config, "alibi", False):
        return "its attention has linear biases (ALiBi), which packed training does not know"
    return None


def longest_sequence(config: Any) -> int | None:
    """Tokens up to which a sequence's positions mean the same whatever is in the micro-batch; None = any number."""
    rope = getattr(config, "rope_parameters", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    if not any(part.get("rope_type") in LENGTH_DEPENDENT_ROPE for part in parts):
        return None
    bounds = [part["original_max_position_embeddings"] for part in parts if "original_max_position_embeddings" in part]
    return int(min(bounds, default=config.max_position_embeddings))


def is_chance(key: str) -> bool:
    """Whether a key of a model's configuration is a rate of dropout or noise."""
    return any(word in key for word in CHANCE)


def _without_chance(config: Any) -> None:
    for key, value in config.to_dict().items():
        if isinstance(value, float) and is_chance(key):
            setattr(config, key, 0.0)


def _require_whole(model: Any, path: str | Path, missing: Any) -> None:
    """Refuse weights that `transformers` made up because the folder lacks them."""
    head = getattr(model, "score", None)  # of a reward model, which may be new
    new = {f"score.{name}" for name, _ in head.named_parameters()} if head is not None else set()
    if lacking := sorted(set(missing) - new):
        raise ModelError(
            f"{path} lacks {len(lacking)} of the weights of {type(model).__name__}, the first is {lacking[0]}; its "
            "files are incomplete, or config.json names another architecture (or tie_word_embeddings wrongly)"
        )
    embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
    if output is not None and model.config.tie_word_embeddings and output.weight is not embeddings.weight:
        raise ModelError(
            f"{path}: config.json ties the embeddings to the output layer, but the files hold different weights for "
            "the two; set tie_word_embeddings to what is true"
        )
    if len(embeddings.weight) != model.config.vocab_size:
        raise ModelError(
            f"{path}: config.json names a vocabulary of {model.config.vocab_size}, but there are embeddings for "
            f"{len(embeddings.weight)} tokens; correct vocab_size"
        )


def _advice(folder: Path, error: Exception) -> str:
    """What to do about a folder that `transformers` could not load, in one line."""
    if any(folder.glob("*.gguf")) and not any(folder.glob("*.safetensors")):
        return "it holds GGUF weights, which are for inference; take the Hugging Face folder they were made from"
    if _has_own_code(folder):
        return "its architecture is Python code in the folder, which is never run; take one that transformers knows"
    first = str(error).strip().splitlines() or [type(error).__name__]
    return first[0][:300]


def _has_own_code(folder: Path) -> bool:
    try:
        return "auto_map" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
