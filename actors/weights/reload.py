"""New weights for the layers of a vLLM model, by vLLM's own reload, on a CPU too.

There kernels read copies of the weights in a layout of their own. vLLM 0.32's reload makes the copies anew for layers
that tensors are loaded into, but not for an output layer that shares the embedding's tensor, and not for experts, whose
kernel it takes to be set up already: such a model would go on with some of its old weights, or with others in the wrong
layout.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from vllm.config import ModelConfig
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.platforms import current_platform


def reload(model: nn.Module, config: ModelConfig, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Load checkpoint tensors in the place of those that `model` has."""
    if current_platform.is_cpu():
        for layer in model.modules():
            method: Any = getattr(layer, "quant_method", None)
            if hasattr(method, "moe_kernel"):
                method.moe_kernel = None  # is set up anew, its copies with it
    initialize_layerwise_reload(model)
    model.load_weights(weights)  # type: ignore[operator] # every model of vLLM has it
    finalize_layerwise_reload(model, config)  # type: ignore[no-untyped-call]
    if current_platform.is_cpu():
        for layer in _sharing(model):
            layer.quant_method.process_weights_after_loading(layer)


def _sharing(model: nn.Module) -> Iterator[Any]:
    """The layers whose weight is that of a layer before them."""
    known = set()
    for layer in model.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, nn.Parameter) and getattr(layer, "quant_method", None) is not None:
            if id(weight) in known:
                yield layer
            known.add(id(weight))
