"""The policy pi_theta: a Hugging Face causal language model that scores packed micro-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from learner import attention
from learner.errors import ModelError
from learner.logprobs import token_logprobs
from learner.packing import Packed

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Policy(nn.Module):
    """Scores the targets of a packed micro-batch under `model`, computing in `dtype` with the weights as they are."""

    def __init__(self, model: Any, dtype: torch.dtype, chunk: int) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.chunk = chunk

    def forward(self, packed: Packed, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """log pi(o_t) and entropy at `temperature` for every target, both [T] float32 (see `token_logprobs`)."""
        device = packed.tokens.device
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            # A ready 4-D mask stops transformers from building one of N x N; our attention does not look at it.
            hidden = self.model.base_model(
                input_ids=packed.tokens[None],
                position_ids=packed.positions[None],
                attention_mask=torch.empty(1, 1, 1, 0, device=device),
                use_cache=False,
                layout=packed.layout,
            ).last_hidden_state[0]
        head = self.model.get_output_embeddings().weight
        states = hidden.index_select(0, packed.predictors).to(self.dtype)
        return token_logprobs(states, head.to(self.dtype), packed.targets, temperature, self.chunk)


def load_model(path: str | Path, device: torch.device) -> Any:
    """The model in a Hugging Face folder, in float32, with packed attention.

    Raises `ModelError` when there is none, or when its head does more than a matrix product (then the chunked
    log-probabilities would be wrong).
    """
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=torch.float32, attn_implementation=attention.NAME, local_files_only=Path(path).exists()
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load a causal language model from {path}: {error}") from error
    for key in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
        if getattr(model.config, key, None) not in (None, 1, 1.0):
            raise ModelError(f"{path}: the architecture scales or caps its logits ({key}), which is not supported")
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise ModelError(f"{path}: the head has a bias, which is not supported")
    model.config.use_cache = False
    return model.to(device)
