"""The trainer: one policy, one optimizer, and the step that reads like GRPO's algorithm."""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner import checkpoint
from learner.algorithms.covariance import choose_tokens
from learner.algorithms.loss import TokenQuantities, micro_batch_loss
from learner.algorithms.samples import Sample, minibatches, samples_of, token_quantities
from learner.batch import Group, save_for_inspection, validate_groups
from learner.config import LearnerConfig
from learner.diagnosis import diagnose_non_finite
from learner.distributed import ranks
from learner.errors import NonFiniteError
from learner.model import weights
from learner.model.adapters import (
    REFERENCE,
    adapter_of,
    adapter_tensors,
    check_base,
    merged_tensors,
    reference_adapters,
    refresh_reference,
)
from learner.model.base_weights import BaseWeights
from learner.model.experts import idle_parameters
from learner.model.flops import StepCost, peak_teraflops
from learner.model.gradients import init_gradients
from learner.model.names import conversion_of
from learner.model.packing import DUMMY, Packed, pack
from learner.model.policy import DTYPES, Policy, build_policy, build_reference, sampled_logprobs
from learner.model.routing import routing_shape
from learner.model.snapshot import Conversion, Snapshot, take
from learner.optimizer import build_optimizer, clip_gradients, init_optimizer_state, load_optimizer_state, schedule
from learner.plan import micro_batches_of, minibatch_order, segments_of, share_of
from learner.runtime import device_of, fit_allocator, tune_allocator
from learner.staging import stager_of
from learner.statistics import (
    TokenRecord,
    batch_statistics,
    compute_statistics,
    token_record,
    token_statistics,
)

log = logging.getLogger(__name__)


class Trainer:
    """Trains a Hugging Face causal language model on groups of completions.

    `version` is the policy version: the number of batches consumed. A step that could not change the weights (no
    group with mixed rewards, or a non-finite gradient) counts too, so that versions and batches stay in step;
    its statistics say `optimizer_steps: 0`.

    With an initialised default process group the model is sharded over its ranks (FSDP2). Every rank then makes the
    same calls with the same arguments; each trains its share of the micro-batches, and all return the same statistics.

    Args:
        config: objective, optimizer and execution.
        model_path: Hugging Face folder.
        seed: of adapters and of the order of minibatches.

    Raises:
        ModelError: where the model cannot be loaded or trained.
    """

    def __init__(self, config: LearnerConfig, model_path: str | Path, seed: int) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        tune_allocator()
        torch.manual_seed(seed)
        self.config = config
        self.seed = seed
        self.version = 0
        self.model_path = Path(model_path)
        self.device = device_of(config)
        self.policy = build_policy(model_path, config, self.device)
        self.model: Any = self.policy.model
        self._conversion = conversion_of(self.model)
        self.reference = self._build_reference()
        if self.config.sends_adapters:
            check_base(self.model, BaseWeights(self.model_path))
        own = (p for name, p in self.model.named_parameters() if adapter_of(name) != REFERENCE)
        active = sum(p.numel() for p in own) - idle_parameters(self.model)
        self.cost = StepCost.of(self.model.config, active)
        self.routing = routing_shape(self.model) if config.router_replay else None
        self.optimizer, self.scheduler = build_optimizer(self.model.parameters(), config.optimizer)
        self._writer = checkpoint.Writer(stager_of(self.device, config.offloads))
        self._non_finite_in_a_row = 0
        self._diagnosis = ""

    # -- one step ---------------------------------------------------------------------------------------------------

    def share(self, groups: Sequence[Group], version: int, oldest_version: int | None = None) -> list[list[int]]:
        """See `plan.share_of`. For any thread, also while a step is made."""
        return share_of(groups, self.config, self.cost, self.seed, version, oldest_version)

    def train_step(
        self,
        groups: Sequence[Group],
        temperature: float = 1.0,
        oldest_version: int | None = None,
        whole: Callable[[], Sequence[Group]] | None = None,
    ) -> dict[str, float]:
        """Train on a batch of groups.

        Args:
            groups: the batch. Outside of this rank's `share`, tokens and single logprobs may be anything.
            temperature: of the sampling, at which the behaviour logprobs were taken.
            oldest_version: tokens of older versions get no weight, see `samples_of`; None: all are trained.
            whole: the batch with all of its tokens, where `groups` is not; asked for only to be saved for inspection.

        Returns:
            `statistics.STATISTICS`, by name.

        Raises:
            BatchError: for a batch that cannot be trained on; nothing has changed then.
            NonFiniteError: after `max_non_finite_steps` steps in a row without a finite loss and gradient.
        """
        peak = self.config.peak_teraflops or self._measured_peak()
        start = time.perf_counter()
        validate_groups(groups, self.model.config.vocab_size, self.routing)
        objective = self.config.objective
        samples = samples_of(groups, objective, oldest_version)
        if self.config.needs_proximal_pass:
            self._compute_proximal([s for group in samples for s in group], groups, temperature)
        records: list[TokenRecord] = []
        generator = minibatch_order(self.seed, self.version)
        steps = [
            self._optimizer_step(minibatch, groups, temperature, records, generator.spawn(1)[0], first=index == 0)
            for index, minibatch in enumerate(minibatches(samples, self.config, generator))
        ]
        self._stop_when_not_finite(steps, whole or (lambda: groups))
        self.version += 1
        every = self.config.objective.reference_refresh_steps
        if every and self.version % every == 0:
            self.refresh_reference()
        statistics = {
            **_summary(steps),
            **batch_statistics(samples),
            **token_statistics(records, objective, self.device),
        }
        seconds = time.perf_counter() - start
        return statistics | compute_statistics(statistics, steps, self.device, seconds, self.cost.parameters, peak)

    def _optimizer_step(
        self,
        samples: Sequence[Sample],
        groups: Sequence[Group],
        temperature: float,
        records: list[TokenRecord],
        draws: np.random.Generator,
        first: bool,
    ) -> dict[str, float]:
        """Forward, backward and step on one minibatch; appends what it trained on to `records`."""
        rate = float(self.scheduler.get_last_lr()[0])
        plan = micro_batches_of(samples, groups, self.config, self.cost)
        choose_tokens(samples, self.config.objective, draws)
        init_optimizer_state(self.optimizer)  # before the activations, or it would lie scattered between them
        self.optimizer.zero_grad(set_to_none=True)
        if plan and self.device.type == "cpu" and ranks.world_size() == 1:
            init_gradients(self.optimizer)
        loss, fed, replayed, start = 0.0, 0, 0, len(records)
        for segments in plan:
            packed = pack(segments or [DUMMY], self.device)
            fit_allocator(packed.tokens, self.config.micro_batch_tokens)
            x = self._score(packed, [samples[i] for i in packed.indices], temperature, trained=bool(segments))
            micro_loss = micro_batch_loss(x, self.config.objective)
            # FSDP averages gradients over ranks; the weights already divide by the whole batch.
            (micro_loss * ranks.world_size()).backward()  # type: ignore[no-untyped-call]
            loss += float(micro_loss.detach())
            if segments:
                fed += len(packed.tokens)
                replayed += packed.replayed if self.routing else 0
                records.append(token_record(x, self.config.objective, comparable=first))
        loss = ranks.all_reduce_sum(loss, self.device)
        norm = clip_gradients(self.model.parameters(), self.config.optimizer.gradient_clip) if plan else 0.0
        finite = math.isfinite(loss) and math.isfinite(norm)
        stepped = bool(plan) and finite
        if stepped:
            self.optimizer.step()
            self.scheduler.step()
        elif plan:
            self._diagnosis = diagnose_non_finite(records[start:], loss, norm)
            log.warning("version %d: step skipped, %s", self.version, self._diagnosis)
            del records[start:]  # they were not trained on, and would make every statistic nan
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "loss": loss if finite else 0.0,
            "gradient_norm": norm if finite else 0.0,
            "learning_rate": rate,
            "stepped": float(stepped),
            "non_finite": float(not finite),
            "fed_tokens": float(fed),
            "replayed_tokens": float(replayed),
        }

    def _score(
        self, packed: Packed, samples: Sequence[Sample], temperature: float, trained: bool = True
    ) -> TokenQuantities:
        """Run the policy (and the reference) on a packed micro-batch, and lay the batch's numbers beside it."""
        logp, entropy = self.policy(packed, temperature)
        reference = self._reference_logprobs(packed, temperature)

        if not trained:  # the dummy has one token, whatever sample it borrowed
            zero = torch.zeros_like(logp.detach())
            rows = packed.sequence, packed.lengths
            return TokenQuantities(logp, entropy, zero, zero, None, zero, zero, zero, *rows, teacher=zero)
        return token_quantities(samples, self.version, logp, entropy, reference, packed.sequence, packed.lengths)

    # -- proximal and reference policies ----------------------------------------------------------------------------

    def _compute_proximal(self, samples: Sequence[Sample], groups: Sequence[Group], temperature: float) -> None:
        """Logprobs of the policy as it is before the first optimizer step, for the samples this step may train."""
        # Which rank will train a sample in which minibatch is not known yet, so every rank scores all of them.
        segments = segments_of(samples, groups, self.config.objective)
        scored = sampled_logprobs(self.policy, segments, self.config.micro_batch_tokens, temperature, self.device)
        for index, logprobs in scored:
            samples[index].proximal = logprobs

    def _build_reference(self) -> Policy | None:
        """A frozen copy of the policy; None where there is no reference, or where it is adapters of the policy's."""
        if self.config.objective.kl == "none" or self.config.lora is not None:
            return None
        return build_reference(self.policy, self.model_path, self.config, self.device)

    def _reference_logprobs(self, packed: Packed, temperature: float) -> Tensor | None:
        if self.config.objective.kl == "none":
            return None
        adapters = contextlib.nullcontext() if self.config.lora is None else reference_adapters(self.model)
        with torch.no_grad(), adapters:
            return (self.reference or self.policy)(packed.unrouted(), temperature)[0]  # type: ignore[no-any-return]

    def refresh_reference(self) -> None:
        """Make the reference, where there is one, what the policy is now."""
        if self.reference is not None:
            self.reference.load_state_dict(self.policy.state_dict())
        elif self.config.objective.kl != "none":
            refresh_reference(self.model)

    def _measured_peak(self) -> float:
        """TFLOP/s of the devices of all ranks."""
        return ranks.world_size() * peak_teraflops(self.device, DTYPES[self.config.dtype])

    def _stop_when_not_finite(self, steps: Sequence[Mapping[str, float]], whole: Callable[[], Sequence[Group]]) -> None:
        for step in steps:
            self._non_finite_in_a_row = self._non_finite_in_a_row + 1 if step["non_finite"] else 0
        if self._non_finite_in_a_row >= self.config.max_non_finite_steps:
            where = self._save_for_inspection(whole)
            raise NonFiniteError(
                f"{self._non_finite_in_a_row} optimizer steps in a row had a non-finite loss or gradient; the batch is "
                f"in {where} (learner.batch.load_groups reads it). Version {self.version}: {self._diagnosis}. Look at "
                "its logprobs and rewards, lower the learning rate, and resume from the last checkpoint."
            )

    def _save_for_inspection(self, whole: Callable[[], Sequence[Group]]) -> str:
        if ranks.rank() != 0:
            return "a file that rank 0 names"
        folder = self.config.inspection_folder or tempfile.mkdtemp(prefix="leeway-inspection-")
        return save_for_inspection(whole(), Path(folder, f"batch-version-{self.version}.npz"))

    # -- weights out ------------------------------------------------------------------------------------------------

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Checkpoint names and full tensors in the compute dtype, in a stable order; tied weights appear once.

        With `lora.broadcast: adapters` only the adapters, in float32: `merging.merged_weights` makes the rest of them.
        They may share memory with the model: send them before the next step, or take a `snapshot`.
        """
        tensors, dtype, conversion = self._outgoing()
        full = weights.full_tensors(tensors, dtype)
        return full if conversion is None else conversion(full)

    def _outgoing(self) -> tuple[Iterator[tuple[str, Tensor]], torch.dtype, Conversion | None]:
        if self.config.sends_adapters:
            return adapter_tensors(self.model), torch.float32, None
        return merged_tensors(self.model), DTYPES[self.config.dtype], self._conversion

    def snapshot(self, senders: Sequence[int] = (0,)) -> Snapshot:
        """Copies of `named_tensors` in host memory, which later steps leave alone: sending and training overlap.

        All ranks take part, and only `senders`, of which adapters have one, keep any: a share each, in their order.
        """
        tensors, dtype, conversion = self._outgoing()
        return take(tensors, dtype, self.device, conversion, weights.keepers(self.model, senders))

    def export(self, folder: Path) -> None:
        """Write a Hugging Face folder (merged weights in the compute dtype, tokenizer files) that engines load."""
        tensors = dict(take(merged_tensors(self.model), DTYPES[self.config.dtype], self.device))
        if ranks.rank() == 0:
            weights.export(self.model, tensors, self.model_path, folder)
        ranks.barrier()

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def save(self, folder: Path, extra: Mapping[str, Any]) -> None:
        """Write a checkpoint, atomically: after a crash `folder` is whole or absent.

        Args:
            folder: its place; older checkpoints beside it are deleted down to `checkpoint_keep_last`.
            extra: JSON that `load` returns.

        Raises:
            CheckpointError: where it cannot be written; earlier checkpoints are untouched.
        """
        self.save_async(folder, extra).result(timeout=checkpoint.WRITE_TIMEOUT_SECONDS)

    def save_async(self, folder: Path, extra: Mapping[str, Any]) -> Future[None]:
        """As `save`, but only the copy is made now; the future is done when the checkpoint is durable."""
        meta = {
            "version": self.version,
            "seed": self.seed,
            "threads": torch.get_num_threads(),
            "non_finite_in_a_row": self._non_finite_in_a_row,
            "extra": dict(extra),
        }
        return self._writer.save_async(Path(folder), self._state(), meta, self.config.checkpoint_keep_last)

    def load(self, folder: Path) -> dict[str, Any]:
        """Resume from a checkpoint. Settings, also the optimizer's, are those of this trainer.

        On CPUs of one kind, with as many threads and ranks as before, every step from here on is bit-identical to what
        it would have been without the interruption. On GPUs sums are taken in an order that varies.

        Returns:
            The `extra` that was saved with it.

        Raises:
            CheckpointError: where `folder` is not a checkpoint of this model and configuration.
            ModelError: where receivers would merge adapters into another base.
        """
        state = self._state()
        meta = checkpoint.load(Path(folder), state)
        if self.config.sends_adapters:
            check_base(self.model, BaseWeights(self.model_path))
        self.version = meta["version"]
        self._non_finite_in_a_row = meta.get("non_finite_in_a_row", 0)  # absent in those of earlier releases
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.scheduler = schedule(self.optimizer, self.config.optimizer, state["scheduler"]["last_epoch"])
        torch.set_rng_state(state["rng"])
        return dict(meta["extra"])

    def difference(self, folder: Path) -> checkpoint.Difference | None:
        """How weights, moments and reference differ from those of a checkpoint; None where they are bit-identical.

        Raises:
            CheckpointError: as `load`.
        """
        return checkpoint.difference(Path(folder), self._state(), ("model", "reference", "optimizer"))

    def _state(self) -> dict[str, Any]:
        """State tensors; loading writes the model's (and the reference's) in place."""
        init_optimizer_state(self.optimizer)
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
        """Free gradients, optimizer state and the reference."""
        self._writer.close()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        self.reference = None


def _summary(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The statistics of the optimizer steps on one batch."""
    taken = sum(s["stepped"] for s in steps)
    return {
        "loss": sum(s["loss"] for s in steps) / len(steps),
        "gradient_norm": sum(s["gradient_norm"] for s in steps) / max(taken, 1.0),
        "learning_rate": steps[-1]["learning_rate"],
        "optimizer_steps": taken,
        "non_finite": sum(s["non_finite"] for s in steps),
    }
