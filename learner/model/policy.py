"""The policy pi_theta: a Hugging Face causal language model that scores packed micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from learner.config import LearnerConfig
from learner.errors import ModelError
from learner.model import loading
from learner.model.fused import fuse
from learner.model.loading import longest_sequence
from learner.model.logprobs import token_logprobs
from learner.model.packing import Packed, Segment, pack
from learner.model.self_check import SelfCheck

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Policy(nn.Module):
    """Scores the targets of a packed micro-batch under `model`, computing in `dtype` with the weights as they are."""

    def __init__(self, model: Any, dtype: torch.dtype, chunk: int) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.chunk = chunk
        self.longest = longest_sequence(model.config)

    def forward(self, packed: Packed, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """log pi(o_t) and entropy of every target at `temperature`: both [T] float32, nats (see `token_logprobs`).

        Raises:
            ModelError: for a sequence whose length would change what is said of the others.
        """
        longest = max(length for _, length in packed.layout.shapes)
        if self.longest is not None and longest > self.longest:
            raise ModelError(
                f"a sequence of {longest} tokens: beyond {self.longest} the model's positions (dynamic or longrope) "
                "depend on the longest sequence of a micro-batch; keep prompt and answer together below it"
            )
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


def load_model(path: str | Path, device: torch.device) -> tuple[Any, SelfCheck]:
    """The model in a Hugging Face folder, in float32 and with packed attention, and what it said before.

    Raises:
        ModelError: where there is none, or none that can be packed.
    """
    model = loading.load(AutoModelForCausalLM, path, device)
    return model, SelfCheck(model, path, partial(_own_logprobs, model))


def build_policy(path: str | Path, config: LearnerConfig, device: torch.device) -> Policy:
    """Load a model, speed it up as configured, and check that it still computes what `transformers` does.

    Raises:
        ModelError: where there is no model, or where the check fails.
    """
    model, check = load_model(path, device)
    model.train()
    if config.fused_kernels:
        on_cpu = config.dtype == "float32" and device.type == "cpu"
        fuse(model, bf16_backward=on_cpu and config.backward_precision == "bfloat16")
    policy = Policy(model, torch.float32, config.logit_chunk_tokens)
    check.require(partial(_packed_logprobs, policy))
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    policy.dtype = DTYPES[config.dtype]
    return policy


def _packed_logprobs(policy: Policy, segments: Sequence[Segment]) -> Sequence[Tensor]:
    packed = pack(segments, policy.model.device)
    logprobs: Tensor = policy(packed)[0]
    return torch.split(logprobs, packed.lengths.tolist())


def _own_logprobs(model: Any, ids: Tensor, prompt: int) -> Tensor:
    """Logprobs of ids[0, prompt:] after ids[0, :prompt], from the model's own forward pass."""
    logprobs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    chosen: Tensor = logprobs[prompt - 1 : -1].gather(1, ids[0, prompt:, None])[:, 0]
    return chosen
