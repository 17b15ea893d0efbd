"""Model folders, loaded as the learner needs them: whole, in float32, without chance, and without code of their own."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, GenerationConfig

from learner.errors import ModelError
from learner.model.base_weights import BaseWeights

#: Names of a configuration's rates of dropout, of dropped layers and of routing noise contain one of these.
CHANCE = ("drop", "jitter")
#: What the layers of a model may be. Others mix tokens outside of an attention that can be packed.
LAYER_TYPES = frozenset({"full_attention", "sliding_attention", "mlp", "moe"})
#: Positions beyond the original length change the frequencies of all tokens of a pass.
LENGTH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})
#: Tokens that the slice of a model knows which its self-check runs on.
SLICE_ROWS = 512
_LAYER = re.compile(r"\blayers\.(\d+)\.")
#: Held while `transformers` loads a model: it changes its own classes meanwhile, and of two threads that do so at once
#: the one may put back what the other has changed, so that no weights are tied any more in this process.
LOADING = threading.Lock()


def load(
    auto: Any, path: str | Path, device: torch.device, shard: Callable[[Any], None] | None = None, **options: Any
) -> Any:
    """A model in float32, with eager attention and every dropout rate at zero.

    A rate above zero would make the log-probabilities of the policy random, and no engine samples with one.

    Args:
        auto: class of `transformers` that loads it.
        path: Hugging Face folder, or a name on the hub.
        device: where it goes.
        shard: is called with the model before it has weights, on the meta device; of a parameter that it makes a
            `DTensor` only this rank's shard is read.
        options: set in the model's configuration.

    Raises:
        ModelError: where there is no model, or one that cannot be trained.
    """
    config = configuration(path, **options)
    with _refused(path), LOADING:
        source = auto if shard is None else _sharding(auto, config, shard)
        model, found = source.from_pretrained(str(path), config=config, output_loading_info=True, **_options(path))
    if shard is not None:
        model.__class__ = type(model).__base__  # as if `auto` had made it
        model._apply(torch.clone)  # of files in float32 the shards are views, whose memory cannot be saved
    _require_whole(model, path, found["missing_keys"])
    return _settled(model).to(device)


def load_slice(auto: Any, path: Path, device: torch.device) -> Any:
    """The first layers of a folder's model, one at least of each kind, and the first rows of its vocabulary.

    Raises:
        ModelError: where there is no model in safetensors, or one that cannot be trained.
    """
    config = configuration(path)
    with _refused(path), LOADING:
        with torch.device("meta"):
            kind = type(whole := auto.from_config(config))
        layers, rows = layers_of_each_kind(whole), min(config.vocab_size, SLICE_ROWS)
        weights = dict(_sliced(BaseWeights(path), layers, rows))
        config.num_hidden_layers, config.vocab_size = layers, rows
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(config, key, None)  # may lie beyond those rows
        model, found = kind.from_pretrained(
            None, config=config, state_dict=weights, output_loading_info=True, **_options(path)
        )
    _require_whole(model, path, found["missing_keys"])
    return _settled(model).to(device)


def layers_of_each_kind(model: Any) -> int:
    """How many of its layers, from the first on, hold one of each kind; two at least where there are so many."""
    layers = getattr(model.base_model, "layers", ())
    types = getattr(model.config, "layer_types", None) or [None] * len(layers)
    kinds = [
        (types[i], type(layer), tuple((name, tuple(p.shape)) for name, p in layer.named_parameters()))
        for i, layer in enumerate(layers)
    ]
    return max(min(2, len(kinds)), max((kinds.index(kind) + 1 for kind in set(kinds)), default=0))


def _sliced(weights: BaseWeights, layers: int, rows: int) -> Iterator[tuple[str, Tensor]]:
    for name in weights:
        layer = _LAYER.search(name)
        if layer is None and weights[name].ndim == 2:
            yield name, weights[name][:rows]
        elif layer is None or int(layer[1]) < layers:
            yield name, weights[name]


def configuration(path: str | Path, **options: Any) -> Any:
    """The configuration of a model, without chance.

    Raises:
        ModelError: where there is none, or one of a model that cannot be trained.
    """
    if (Path(path) / "adapter_config.json").is_file():
        raise ModelError(f"{path} holds adapters (PEFT); merge them into their base with merge_and_unload first")
    with _refused(path):
        local = Path(path).exists()
        config = AutoConfig.from_pretrained(str(path), local_files_only=local, trust_remote_code=False, **options)
    if reason := untrainable(config):
        raise ModelError(f"{path}: {config.model_type} cannot be trained: {reason}")
    _without_chance(config)
    return config


@contextlib.contextmanager
def _refused(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError, AttributeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be loaded: {_advice(Path(path), error)}") from error


def _options(path: str | Path) -> dict[str, Any]:
    return {
        "dtype": torch.float32,
        "attn_implementation": "eager",
        "local_files_only": Path(path).exists(),
        "trust_remote_code": False,
    }


def _sharding(auto: Any, config: Any, shard: Callable[[Any], None]) -> Any:
    """The class that `auto` makes of a configuration, which shards itself between its making and its weights.

    `transformers` reads shards alone of what is a `DTensor` by then, conversions of its names and layouts included. It
    has a plan of its own for FSDP2, which not every model has, and which other units than ours come from.
    """
    with torch.device("meta"):
        kind = type(auto.from_config(config))

    def load_pretrained_model(model: Any, *arguments: Any, **named: Any) -> Any:
        model.tie_weights()  # or FSDP would take what is tied for two parameters
        shard(model)
        return kind._load_pretrained_model(model, *arguments, **named)

    members = {"__module__": kind.__module__, "_load_pretrained_model": staticmethod(load_pretrained_model)}
    return type(kind.__name__, (kind,), members)


def _settled(model: Any) -> Any:
    model.config.use_cache = False
    if model.can_generate() and (own := model.generation_config) is not None:  # reward models generate nothing
        # A folder's settings of sampling decide nothing here, and an inconsistent file would keep the model from being
        # saved; the file itself goes into exports as it is.
        ids = {key: getattr(own, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**ids)  # type: ignore[no-untyped-call]
    return model


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


def context_length(config: Any) -> int | None:
    """Most tokens that a model of this configuration reads; None where it names no bound."""
    bound = config.to_dict().get("max_position_embeddings")
    return None if bound is None else int(bound)


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
