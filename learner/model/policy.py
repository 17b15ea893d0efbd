"""The policy pi_theta: a Hugging Face causal language model that scores packed micro-batches."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForCausalLM

from learner.config import LearnerConfig
from learner.distributed import ranks
from learner.errors import ModelError
from learner.model import attention, loading
from learner.model.adapters import add_adapters, take_weights
from learner.model.fused import fuse
from learner.model.loading import longest_sequence
from learner.model.logprobs import token_logprobs
from learner.model.packing import Packed, Segment, pack, plan_micro_batches
from learner.model.routing import replay_routing
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
                routed_experts=packed.routed_experts,
            ).last_hidden_state[0]
        head = self.model.get_output_embeddings().weight
        states = hidden.index_select(0, packed.predictors).to(self.dtype)
        return token_logprobs(states, head, packed.targets, temperature, self.chunk)


def sampled_logprobs(
    policy: Policy, segments: Sequence[Segment], budget: int, temperature: float, device: torch.device
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """The index of every completion of some segments, in any order, with log pi(o_t) of its tokens: [T] float32, nats.

    Without a gradient, in micro-batches of at most `budget` tokens.
    """
    for part in plan_micro_batches(segments, budget):
        packed = pack(part, device)
        with torch.no_grad():
            logp, _ = policy(packed, temperature)
        for index, values in zip(packed.indices, logp.split(packed.lengths.tolist()), strict=True):
            yield index, values.cpu().numpy()


def load_model(path: str | Path, device: torch.device) -> tuple[Any, SelfCheck]:
    """The model in a Hugging Face folder, in float32 and with packed attention, and what it said before.

    Raises:
        ModelError: where there is none, or none that can be packed.
    """
    model = loading.load(AutoModelForCausalLM, path, device)
    return model, SelfCheck(model, path, partial(_own_logprobs, model))


def build_policy(path: str | Path, config: LearnerConfig, device: torch.device) -> Policy:
    """Load a model, speed it up as configured, and check that it still computes what `transformers` does.

    With several ranks, or offloaded, it is sharded, and no rank ever holds more of it than its shards and a few layers,
    on which it is checked.

    Raises:
        ModelError: where there is no model, where the check fails, or where it cannot have the adapters.
    """
    if ranks.shards(config.offloads):
        _check_slice(Path(path), config, device)
        if config.lora is not None:
            return _sharded_with_adapters(path, config, device)
        return _sharded(path, config, device, trained=True)
    model, check = load_model(path, device)
    model.train()
    _change(model, config, device)
    policy = Policy(model, torch.float32, config.logit_chunk_tokens)
    check.require(partial(_packed_logprobs, policy))
    if config.lora is not None:
        add_adapters(model, config.lora, device, reference=config.objective.kl != "none")
    return _ready(policy, config)


def build_reference(policy: Policy, path: str | Path, config: LearnerConfig, device: torch.device) -> Policy:
    """A frozen policy of the weights that `policy` was built with."""
    if isinstance(policy, FSDPModule):
        return _sharded(path, config, device, trained=False)
    model = copy.deepcopy(policy.model).requires_grad_(False).eval()
    return Policy(model, policy.dtype, config.logit_chunk_tokens)


def _sharded(path: str | Path, config: LearnerConfig, device: torch.device, trained: bool) -> Policy:
    made: list[Policy] = []

    def shard(model: Any) -> None:
        _change(model.train(trained).requires_grad_(trained), config, device)
        made.append(Policy(model, torch.float32, config.logit_chunk_tokens))
        ranks.shard(made[0], DTYPES[config.dtype], config.offloads)

    model = loading.load(AutoModelForCausalLM, path, _place_of(config, device), shard).train(trained)
    _move_buffers(model, device)
    model.set_attn_implementation(attention.NAME)
    return _ready(made[0], config)


def _sharded_with_adapters(path: str | Path, config: LearnerConfig, device: torch.device) -> Policy:
    """Adapters come before FSDP2, which takes what is there into its units, and weights after it, so that only shards
    of them are read. But a layer that has an adapter calls its own weight something else than the files do; so the
    weights are loaded into a model without adapters, and taken over from there, shard by shard.
    """
    assert config.lora is not None
    base = _sharded(path, config, device, trained=False).model
    with torch.device("meta"):
        model = type(base)(base.config).train()
    model.tie_weights()
    _change(model, config, device)
    add_adapters(model, config.lora, _place_of(config, device), reference=config.objective.kl != "none")
    policy = Policy(model, torch.float32, config.logit_chunk_tokens)
    ranks.shard(policy, DTYPES[config.dtype], config.offloads)
    take_weights(model, base)
    return _ready(policy, config)


def _place_of(config: LearnerConfig, device: torch.device) -> torch.device:
    """Where shards are."""
    return torch.device("cpu") if config.offloads else device


def _move_buffers(model: nn.Module, device: torch.device) -> None:
    """Buffers, as those of rotary embeddings, are where a pass is; FSDP2 moves none of them there by itself."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def _check_slice(path: Path, config: LearnerConfig, device: torch.device) -> None:
    """The self-check on a slice of the model, which is gone afterwards."""
    model = loading.load_slice(AutoModelForCausalLM, path, device)
    check = SelfCheck(model, path, partial(_own_logprobs, model))
    _change(model.train(), config, device)
    check.require(partial(_packed_logprobs, Policy(model, torch.float32, config.logit_chunk_tokens)))


def _change(model: Any, config: LearnerConfig, device: torch.device) -> None:
    """Fused kernels and router replay, as configured."""
    if config.router_replay:
        replay_routing(model)
    if config.fused_kernels:
        on_cpu = config.dtype == "float32" and device.type == "cpu"
        fuse(model, bf16_backward=on_cpu and config.backward_precision == "bfloat16")


def _ready(policy: Policy, config: LearnerConfig) -> Policy:
    if config.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
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
