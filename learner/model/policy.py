"""The policy pi_theta: a Hugging Face causal language model that scores packed micro-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from learner.config import LearnerConfig
from learner.errors import ModelError
from learner.model import attention
from learner.model.fused import fuse
from learner.model.logprobs import token_logprobs
from learner.model.packing import Packed, Segment, pack

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Two correct float32 forward passes of a few tokens differ by rounding only; a wrong formula differs by far more.
SELF_CHECK_TOLERANCE = 1e-3


class Policy(nn.Module):
    """Scores the targets of a packed micro-batch under `model`, computing in `dtype` with the weights as they are."""

    def __init__(self, model: Any, dtype: torch.dtype, chunk: int) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.chunk = chunk

    def forward(self, packed: Packed, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """log pi(o_t) and entropy of every target at `temperature`: both [T] float32, nats (see `token_logprobs`)."""
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
        return token_logprobs(states, head, packed.targets, temperature, self.chunk)


def load_model(path: str | Path, device: torch.device) -> Any:
    """The model in a Hugging Face folder, in float32, with packed attention.

    Raises:
        ModelError: where there is none.
    """
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=torch.float32, attn_implementation=attention.NAME, local_files_only=Path(path).exists()
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load a causal language model from {path}: {error}") from error
    model.config.use_cache = False
    return model.to(device)


def build_policy(path: str | Path, config: LearnerConfig, device: torch.device) -> Policy:
    """Load a model, speed it up as configured, and check that it still computes what `transformers` does.

    Raises:
        ModelError: where there is no model, or where the check fails.
    """
    model = load_model(path, device).train()
    probe = np.arange(12, dtype=np.int32) % model.config.vocab_size
    expected = _plain_logprobs(model, probe)
    if config.fused_kernels:
        on_cpu = config.dtype == "float32" and device.type == "cpu"
        fuse(model, bf16_backward=on_cpu and config.backward_precision == "bfloat16")
    policy = Policy(model, torch.float32, config.logit_chunk_tokens)
    with torch.no_grad():
        found, _ = policy(pack([Segment(probe[:3], (probe[3:],), (0,))], device))
    if not torch.allclose(found, expected, atol=SELF_CHECK_TOLERANCE):
        raise ModelError(
            f"{path}: packed logprobs differ from {type(model).__name__}'s own by "
            f"{(found - expected).abs().max():.3g}; this architecture does more than the packed path knows. "
            "Try fused_kernels: false, or train another model."
        )
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    policy.dtype = DTYPES[config.dtype]
    return policy


def _plain_logprobs(model: Any, probe: np.ndarray[Any, np.dtype[np.int32]]) -> Tensor:
    """Logprobs of probe[3:] after probe[:3], from the model's own forward pass."""
    ids = torch.from_numpy(probe.astype(np.int64))[None].to(model.device)
    with torch.no_grad():
        logprobs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    chosen: Tensor = logprobs[2:-1].gather(1, ids[0, 3:, None])[:, 0]
    return chosen
