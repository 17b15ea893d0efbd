"""The trainer: one policy, one optimizer, and the step that reads like GRPO's algorithm."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner import checkpoint
from learner.advantages import group_advantages, soft_overlong_punishment
from learner.aggregation import sequence_weights
from learner.batch import Completion, Group, validate_groups
from learner.config import LearnerConfig
from learner.divergences import kl_estimate
from learner.errors import NonFiniteError
from learner.fused import fast_backward, fuse
from learner.loss import TokenQuantities, micro_batch_loss
from learner.optimizer import build_optimizer, clip_gradients
from learner.packing import Packed, Segment, pack, plan_micro_batches
from learner.policy import DTYPES, Policy, load_model
from learner.runtime import keep_freed_memory
from learner.statistics import Array, TokenRecord, batch_statistics, token_statistics


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A completion with what the loss needs of it: its advantage and the weight of each of its tokens."""

    completion: Completion
    advantage: float
    weight: float


class Trainer:
    """Trains a Hugging Face causal language model on groups of completions.

    `version` is the policy version: the number of batches consumed. A step that could not change the weights (no
    group with mixed rewards, or a non-finite gradient) counts too, so that versions and batches stay in step;
    its statistics say `optimizer_steps: 0`.
    """

    def __init__(self, config: LearnerConfig, model_path: str | Path, seed: int) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        keep_freed_memory()
        torch.manual_seed(seed)
        self.config = config
        self.seed = seed
        self.version = 0
        self.model_path = Path(model_path)
        cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
        self.device = torch.device("cuda" if cuda else "cpu")
        self.dtype = DTYPES[config.dtype]
        self.model = load_model(model_path, self.device)
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model.train()
        if config.fused_kernels:
            fuse(self.model)
        if config.backward_precision == "bfloat16" and config.dtype == "float32" and self.device.type == "cpu":
            fast_backward(self.model)
        self.policy = Policy(self.model, self.dtype, config.logit_chunk_tokens)
        self.reference = self._frozen_copy() if config.objective.kl != "none" else None
        self.optimizer, self.scheduler = build_optimizer(self.model.parameters(), config.optimizer)
        self._non_finite_in_a_row = 0

    # -- one step ---------------------------------------------------------------------------------------------------

    def train_step(self, groups: Sequence[Group], temperature: float = 1.0) -> dict[str, float]:
        """Train on a batch of groups; returns `statistics.STATISTICS`.

        `temperature` is that of the sampling, at which the behaviour logprobs were taken. Raises `BatchError` for a
        batch that cannot be trained on (nothing has changed then), and `NonFiniteError` after
        `max_non_finite_steps` steps in a row without a finite loss and gradient.
        """
        start = time.perf_counter()
        validate_groups(groups, self.model.config.vocab_size)
        objective = self.config.objective
        advantages = [self._advantages(group) for group in groups]
        records: list[TokenRecord] = []
        steps = [
            self._optimizer_step(minibatch, temperature, records, first=index == 0)
            for index, minibatch in enumerate(self._minibatches(groups, advantages))
        ]
        taken = [s for s in steps if s["optimizer_steps"]]
        self._count_non_finite(steps)
        self.version += 1
        if self.reference is not None and objective.reference_refresh_steps:
            self._refresh_reference(objective.reference_refresh_steps)
        statistics = {
            "loss": sum(s["loss"] for s in steps) / len(steps),
            "gradient_norm": sum(s["gradient_norm"] for s in taken) / max(len(taken), 1),
            "learning_rate": steps[-1]["learning_rate"],
            "optimizer_steps": float(len(taken)),
            "non_finite": float(any(s["non_finite"] for s in steps)),
            **batch_statistics(groups, advantages),
            **token_statistics(records, objective),
        }
        seconds = time.perf_counter() - start
        return {**statistics, "seconds": seconds, "tokens_per_second": statistics["tokens"] / seconds}

    def _advantages(self, group: Group) -> Array:
        """A_i of a group, with DAPO's length punishment added to the rewards where it is configured."""
        o = self.config.objective
        rewards = np.array([c.reward for c in group.completions], dtype=np.float64)
        if o.overlong_limit is not None:
            limit, cache = o.overlong_limit, o.overlong_cache
            rewards += [soft_overlong_punishment(len(c.tokens), limit, cache) for c in group.completions]
        return group_advantages(rewards, o.advantage)

    def _minibatches(
        self, groups: Sequence[Group], advantages: Sequence[Array]
    ) -> Iterator[tuple[list[Group], list[_Sequence]]]:
        """Parts of the batch, one optimizer step each; several only with `minibatches` or `epochs` above 1."""
        o, count = self.config.objective, min(self.config.minibatches, len(groups))
        generator = np.random.default_rng((self.seed, self.version))
        for _ in range(self.config.epochs):
            order = generator.permutation(len(groups)) if count > 1 else np.arange(len(groups))
            for part in np.array_split(order, count):
                chosen = [groups[i] for i in part]
                completions = [c for g in chosen for c in g.completions]
                lengths = np.array([len(c.tokens) for c in completions])
                sizes = np.array([len(g.completions) for g in chosen])
                weights = sequence_weights(o.aggregation, lengths, sizes, o.constant_length)
                flat = np.concatenate([advantages[i] for i in part])
                yield (
                    chosen,
                    [_Sequence(c, float(a), float(w)) for c, a, w in zip(completions, flat, weights, strict=True)],
                )

    def _optimizer_step(
        self,
        minibatch: tuple[list[Group], list[_Sequence]],
        temperature: float,
        records: list[TokenRecord],
        first: bool,
    ) -> dict[str, float]:
        """Forward, backward and step on one minibatch; appends what it trained on to `records`."""
        groups, sequences = minibatch
        rate = float(self.scheduler.get_last_lr()[0])
        self.optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        plan = plan_micro_batches(self._segments(groups, sequences), self.config.micro_batch_tokens)
        for segments in plan:
            packed = pack(segments, self.device)
            x = self._score(packed, [sequences[i] for i in packed.indices], temperature)
            micro_loss = micro_batch_loss(x, self.config.objective)
            micro_loss.backward()  # type: ignore[no-untyped-call]
            loss += float(micro_loss.detach())
            records.append(self._record(x, comparable=first))
        norm = clip_gradients(self.model.parameters(), self.config.optimizer.gradient_clip) if plan else 0.0
        finite = math.isfinite(loss) and math.isfinite(norm)
        if plan and finite:
            self.optimizer.step()
            self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "loss": loss,
            "gradient_norm": norm,
            "learning_rate": rate,
            "optimizer_steps": float(bool(plan) and finite),
            "non_finite": float(not finite),
        }

    def _segments(self, groups: Sequence[Group], sequences: Sequence[_Sequence]) -> list[Segment]:
        """What has to go through the model: completions without a gradient are left out."""
        o = self.config.objective
        segments, index = [], 0
        for group in groups:
            kept = []
            for completion in group.completions:
                silent = o.zero_advantage_is_silent and sequences[index].advantage == 0.0
                if not silent and not (o.mask_truncated and completion.truncated):
                    kept.append((index, completion.tokens))
                index += 1
            if kept:
                segments.append(Segment(group.prompt, tuple(t for _, t in kept), tuple(i for i, _ in kept)))
        return segments

    def _score(self, packed: Packed, sequences: Sequence[_Sequence], temperature: float) -> TokenQuantities:
        """Run the policy (and the reference) on a packed micro-batch, and lay the batch's numbers beside it."""
        logp, entropy = self.policy(packed, temperature)
        reference = None
        if self.reference is not None:
            with torch.no_grad():
                reference, _ = self.reference(packed, temperature)

        def tokens(parts: Sequence[Any]) -> Tensor:
            return torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(self.device)

        def repeated(values: Sequence[float]) -> Tensor:
            column = torch.tensor(values, dtype=torch.float32, device=self.device)
            return column.repeat_interleave(packed.lengths)

        return TokenQuantities(
            logp=logp,
            entropy=entropy,
            behaviour=tokens([s.completion.logprobs for s in sequences]),
            # With one optimizer step a batch the proximal policy is the current one: no second forward pass.
            proximal=logp.detach(),
            reference=reference,
            advantages=repeated([s.advantage for s in sequences]),
            weights=repeated([s.weight for s in sequences]),
            age=tokens([self.version - s.completion.versions for s in sequences]),
            sequence=packed.sequence,
            lengths=packed.lengths,
        )

    def _record(self, x: TokenQuantities, comparable: bool) -> TokenRecord:
        def array(tensor: Tensor) -> Array:
            return tensor.detach().double().cpu().numpy()

        o = self.config.objective
        reference = x.logp if x.reference is None else x.reference
        return TokenRecord(
            logp=array(x.logp),
            entropy=array(x.entropy),
            old=array(x.behaviour if o.old_policy == "behaviour" else x.proximal),
            behaviour=array(x.behaviour),
            advantages=array(x.advantages),
            age=array(x.age),
            kl=array(kl_estimate(o.kl, x.logp.detach(), reference)),
            comparable=array(x.age) == 0 if comparable else np.zeros(len(x.age), dtype=np.bool_),
        )

    def _count_non_finite(self, steps: Sequence[Mapping[str, float]]) -> None:
        for step in steps:
            self._non_finite_in_a_row = self._non_finite_in_a_row + 1 if step["non_finite"] else 0
        if self._non_finite_in_a_row >= self.config.max_non_finite_steps:
            raise NonFiniteError(
                f"{self._non_finite_in_a_row} steps in a row had a non-finite loss or gradient at version "
                f"{self.version}; lower the learning rate or inspect the rewards and logprobs of the batch"
            )

    # -- reference --------------------------------------------------------------------------------------------------

    def _frozen_copy(self) -> Policy:
        model = copy.deepcopy(self.model).requires_grad_(False).eval()
        return Policy(model, self.dtype, self.config.logit_chunk_tokens)

    def _refresh_reference(self, every: int) -> None:
        if self.reference is not None and self.version % every == 0:
            self.reference.load_state_dict(self.policy.state_dict())

    # -- weights out ------------------------------------------------------------------------------------------------

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Hugging Face names and full tensors in the compute dtype, in a stable order; tied weights appear once."""
        for name, parameter in self.model.named_parameters():
            yield name, parameter.detach().to(self.dtype)

    def snapshot(self) -> list[tuple[str, Tensor]]:
        """Copies of `named_tensors` that later steps leave alone, so that sending and training may overlap."""
        return [(name, tensor.clone()) for name, tensor in self.named_tensors()]

    def export(self, folder: Path) -> None:
        """Write a Hugging Face folder (weights in the compute dtype, tokenizer files copied) that engines load."""
        checkpoint.export(self.model, dict(self.named_tensors()), self.model_path, folder)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def save(self, folder: Path, extra: Mapping[str, Any]) -> None:
        """Write a checkpoint to `folder`, atomically: after a crash `folder` is whole or absent.

        `extra` (JSON) is returned by `load`.
        """
        checkpoint.save(folder, self._state(), {"version": self.version, "seed": self.seed, "extra": dict(extra)})

    def load(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint, bit for bit; returns its `extra`. Raises `CheckpointError`."""
        state = self._state()
        meta = checkpoint.load(folder, state)
        self.version = meta["version"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["rng"])
        return dict(meta["extra"])

    def _state(self) -> dict[str, Any]:
        """State tensors; loading writes the model's (and the reference's) in place."""
        checkpoint.materialise(self.optimizer)
        state: dict[str, Any] = {
            "model": dict(self.model.named_parameters()),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "rng": torch.get_rng_state(),
        }
        if self.reference is not None:
            state["reference"] = dict(self.reference.model.named_parameters())
        return state

    def close(self) -> None:
        """Free the model, its gradients and the optimizer state."""
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        self.reference = None
