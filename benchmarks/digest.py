"""Runs inside vLLM's workers in tests and trials: hashes of their real parameters, under their Hugging Face names."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from actors.weights.worker_extension import WeightUpdateExtension


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes()).hexdigest()


def weights(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """What the engine multiplies with. On CPUs vLLM packs the weights of linear layers and drops the originals; a
    layer that is applied to the identity gives its packed weights back exactly, in float32."""
    for name, module in model.named_modules():
        for kind, parameter in module.named_parameters(recurse=False):
            if parameter.numel():
                yield f"{name}.{kind}", parameter
            else:
                width = getattr(module, "input_size_per_partition", module.input_size)
                yield f"{name}.{kind}", module.cpu_linear(torch.eye(width), parameter, None).t()


class Digest(WeightUpdateExtension):
    """A vLLM worker extension that stands for the one that our engine needs; `model_runner` is the worker's."""

    model_runner: Any

    @torch.no_grad()
    def parameter_digests(self) -> dict[str, str]:
        """vLLM fuses q, k, v and gate, up; here they are taken apart again."""
        model = self.model_runner.get_model()
        config = model.config
        width = config.hidden_size // config.num_attention_heads
        q, kv = config.num_attention_heads * width, config.num_key_value_heads * width
        found = {}
        for name, parameter in weights(model):
            if "qkv_proj" in name:
                parts = parameter.split([q, kv, kv])
                for part, tensor in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                    found[name.replace("qkv_proj", part)] = digest(tensor)
            elif "gate_up_proj" in name:
                for part, tensor in zip(("gate_proj", "up_proj"), parameter.chunk(2), strict=True):
                    found[name.replace("gate_up_proj", part)] = digest(tensor)
            else:
                found[name] = digest(parameter)
        return found
