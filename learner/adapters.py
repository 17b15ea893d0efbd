"""LoRA (Hu et al. 2021) through `peft`: W + (alpha / r) B A, with A and B trained and W frozen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from learner.config import LoraSettings

ADAPTER = "default"


def add_adapters(model: nn.Module, settings: LoraSettings) -> None:
    """Freeze `model` and put an adapter beside every target layer; B starts at zero, so nothing changes yet."""
    # peft takes seconds to import, which a run without adapters should not wait for.
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=settings.targets,
        task_type="CAUSAL_LM",
    )
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


@contextlib.contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Inside, `model` computes what it did before the adapters: the frozen reference policy, at no memory."""
    layers = list(adapted_layers(model).values())
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """The layers that have an adapter, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def merged_tensors(model: nn.Module, merge: bool) -> Iterator[tuple[str, Tensor]]:
    """Parameters under their Hugging Face names with adapters merged in, or else the adapters' parameters alone."""
    layers = adapted_layers(model)
    if not layers:
        yield from model.named_parameters()
        return
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            if not merge:
                yield name.replace(f".{ADAPTER}.", "."), parameter
        elif merge:
            owner = name.partition(".base_layer.")[0]
            layer = layers.get(owner) if name.endswith(".base_layer.weight") else None
            delta = layer.get_delta_weight(ADAPTER) if layer is not None else 0.0
            yield name.replace(".base_layer.", "."), parameter.detach() + delta
