"""LoRA (Hu et al. 2021) through `peft`: W + (alpha / r) B A, with A and B trained and W frozen.

Engines get merged weights. Either the learner merges and sends them (`merged_tensors`), or it sends A and B alone
(`adapter_tensors`) and receivers merge them into the folder that everyone started from (`learner.model.merging`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from learner.config import LoraSettings
from learner.distributed import ranks
from learner.errors import ModelError
from learner.model.base_weights import BaseWeights
from learner.model.merging import merge
from learner.model.names import checkpoint_tensors

#: The adapter that is trained, and the frozen one of the reference policy.
ADAPTER, REFERENCE = "default", "reference"
_NAME = re.compile(r"(.*\.lora_\w+\.)(\w+)(.*)")


def add_adapters(model: Any, settings: LoraSettings, place: torch.device, reference: bool = False) -> None:
    """Freeze `model` and put an adapter beside every target layer; B starts at zero, so nothing changes yet.

    A is drawn by torch's seed alone, so that it is the same however the model was loaded.

    Args:
        model: is changed in place; its weights may be on the meta device.
        settings: rank, scale and layers.
        place: where adapters go.
        reference: whether each of these layers gets another, frozen adapter, see `reference_adapters`.

    Raises:
        ModelError: for targets that match nothing, or cannot have an adapter.
    """
    # peft takes seconds to import, which a run without adapters should not wait for.
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=settings.targets,
        task_type="CAUSAL_LM",
    )
    try:
        for name in (ADAPTER, *([REFERENCE] if reference else [])):
            inject_adapter_in_model(config, model, adapter_name=name)
    except (ValueError, NotImplementedError) as error:  # a target of another kind, or none at all
        raise ModelError(f"lora.targets {settings.targets}: {' '.join(str(error).split())[:200]}") from error
    layers = adapted_layers(model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch.initial_seed())
        for layer in layers.values():
            for name in (ADAPTER, *([REFERENCE] if reference else [])):
                _initialize(layer, name, place)
            layer.set_adapter(ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_is_trained(name))
    if reference:
        refresh_reference(model)
    _require_trainable(model, settings, layers)


def _initialize(layer: Any, name: str, place: torch.device) -> None:
    """Draw an adapter as peft does, on the CPU; beside weights on the meta device peft has put it there."""
    parts = [part for kind in layer.adapter_layer_names if name in (part := getattr(layer, kind))]
    for part in parts:
        _move(part, name, lambda p: torch.empty_like(p, device="cpu"))
    layer.reset_lora_parameters(name, True)
    for part in parts:
        _move(part, name, lambda p: p.to(place))


def _move(part: Any, name: str, moved: Callable[[Tensor], Tensor]) -> None:
    """An adapter of an embedding is parameters, any other one linear layers."""
    if isinstance(part, nn.ParameterDict):
        part[name] = nn.Parameter(moved(part[name].detach()))
    else:
        part[name]._apply(moved)


def take_weights(model: Any, base: nn.Module) -> None:
    """Give `model`, which has adapters, the weights and buffers of `base`, which has none and is sharded alike."""
    for kind in ("_parameters", "_buffers"):
        for name, module in model.named_modules():
            own = getattr(module, kind)
            place = name.replace(".base_layer", "")
            for key in own if "lora_" not in name else ():
                own[key] = getattr(base.get_submodule(place), kind)[key]


def _require_trainable(model: Any, settings: LoraSettings, layers: Mapping[str, Any]) -> None:
    for target in settings.targets if isinstance(settings.targets, list) else ():
        if not any(f".{name}".endswith(f".{target}") for name in layers):
            raise ModelError(f"lora.targets: no layer that can have an adapter is called {target}; leave it out")
    output = model.get_output_embeddings()
    for name, layer in layers.items():
        if layer is output:
            raise ModelError(f"{name} is the output layer, whose adapter is not trained; leave it out of lora.targets")
        weight = getattr(base := layer.get_base_layer(), "weight", None)
        if weight is None:
            raise ModelError(
                f"{name} ({type(base).__name__}) has no weight of its own that an adapter could stand beside: experts "
                "cannot be adapted; name other layers in lora.targets, such as [q_proj, k_proj, v_proj, o_proj]"
            )
        if output is not None and weight is output.weight:
            raise ModelError(f"{name} shares its weight with the output layer; leave it out of lora.targets")


def refresh_reference(model: nn.Module) -> None:
    """Make the reference adapters what the trained ones are now."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            if _is_trained(name):
                parameters[_NAME.sub(rf"\g<1>{REFERENCE}\3", name)].copy_(parameter)


@contextlib.contextmanager
def reference_adapters(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is the reference policy, at the memory of its adapters alone."""
    layers = adapted_layers(model).values()
    for layer in layers:
        layer.set_adapter(REFERENCE, inference_mode=True)
    try:
        yield
    finally:
        for layer in layers:
            layer.set_adapter(ADAPTER)


def adapter_of(name: str) -> str | None:
    """The adapter that a parameter belongs to; None for the model's own."""
    match = _NAME.fullmatch(name)
    return match[2] if match else None


def _is_trained(name: str) -> bool:
    return adapter_of(name) == ADAPTER


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """The layers that have an adapter, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def merged_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Hugging Face names and tensors with the adapters merged in: whole where one was, else sharded as they are.

    Every rank must iterate."""
    for name, parameter, layer in merged_parameters(model):
        yield name, _merged(parameter, layer)


def merged_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor, Any]]:
    """What `merged_tensors` is made of: name, the parameter sharded as it is, and its layer where that is adapted."""
    layers = adapted_layers(model)
    for name, parameter in model.named_parameters():
        if not layers:
            yield name, parameter.detach(), None
        elif "lora_" not in name:
            layer = layers.get(name.removesuffix(".base_layer.weight"))
            yield name.replace(".base_layer.", "."), parameter.detach(), layer


def _merged(weight: Tensor, layer: Any) -> Tensor:
    if layer is None:
        return weight
    if not _is_linear(layer):
        # How embeddings and transposed layers lie in memory is peft's knowledge.
        return ranks.full_tensor(weight + layer.get_delta_weight(ADAPTER).detach())
    a, b = (ranks.full_tensor(factor[ADAPTER].weight.detach()) for factor in (layer.lora_A, layer.lora_B))
    return merge(ranks.full_tensor(weight), a, b, layer.scaling[ADAPTER])


def _is_linear(layer: Any) -> bool:
    return isinstance(layer.get_base_layer(), nn.Linear)


def adapter_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The adapters alone, in float32, sharded as they are: LAYER.lora_A.weight and LAYER.lora_B.weight."""
    for name, parameter in model.named_parameters():
        if _is_trained(name):
            yield name.replace(f".{ADAPTER}.", "."), parameter.detach()


def check_base(model: nn.Module, base: BaseWeights) -> None:
    """Make sure that receivers who merge into `base` get this model: the frozen weights are bit-identical to it.

    Every rank must call it.

    Raises:
        ModelError: where they are not, or where receivers cannot merge the adapter of a layer.
    """
    for name, layer in adapted_layers(model).items():
        if not _is_linear(layer) or f"{name}.weight" not in base:
            kind = type(layer.get_base_layer()).__name__
            raise ModelError(
                f"receivers cannot merge the adapter of {name} ({kind}): set lora.broadcast: merged, or leave it out "
                "of lora.targets"
            )
    own_tensors = (
        (name.replace(".base_layer.", "."), ranks.full_tensor(parameter.detach()))
        for name, parameter in model.named_parameters()
        if "lora_" not in name
    )
    for own, frozen in checkpoint_tensors(model, own_tensors):
        if own not in base or not torch.equal(base[own].to(frozen.device).float(), frozen):
            raise ModelError(
                f"the frozen weight {own} is not that of {base.folder}, into which receivers would merge the adapters: "
                "resume with the folder that this run began from, or set lora.broadcast: merged"
            )
