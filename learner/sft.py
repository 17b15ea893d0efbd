"""Supervised stages: the loop they share, and the cold start with cross-entropy on completions only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from learner.config import OptimizerConfig, SftConfig
from learner.distributed import ranks
from learner.errors import BatchError, NonFiniteError
from learner.model.packing import DUMMY, Segment, assign_micro_batches, pack, plan_micro_batches
from learner.optimizer import build_optimizer, clip_gradients
from learner.runtime import fit_allocator
from learner.trainer import Trainer

Example = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]
Indices = npt.NDArray[np.int64]


def train_sft(
    trainer: Trainer,
    examples: Sequence[Example],
    config: SftConfig,
    should_stop: Callable[[int], bool] | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    held_out: Sequence[Example] = (),
) -> dict[str, float]:
    """Supervised fine-tuning with a fresh AdamW; the policy version does not change, and what is learned becomes the
    reference of the reinforcement learning.

    Args:
        trainer: its model is changed in place.
        examples: pairs of an int32 prompt [P] and completion [T]; only completions have a loss.
        config: optimizer and schedule. From step `check_from` on, every `check_every` steps, training may stop.
        should_stop: asked with the step at every check.
        on_step: sees every step and its statistics.
        held_out: examples whose loss is measured at every check; `patience` checks without a better one end training.

    Returns:
        The statistics of the last step: loss (nats a token), tokens, and those of `fit`.

    Raises:
        BatchError: without examples.
        NonFiniteError: before a step that would spoil the weights.
    """
    if not examples:
        raise BatchError("no examples to train on")

    def backward(batch: Indices) -> dict[str, float]:
        loss, tokens = cross_entropy(trainer, [examples[i] for i in batch], train=True)
        return {"loss": loss, "tokens": float(tokens)}

    def held_out_loss() -> float:
        return cross_entropy(trainer, held_out, train=False)[0]

    statistics = fit(
        list(trainer.model.parameters()),
        len(examples),
        config,
        trainer.seed,
        backward,
        held_out_loss if held_out else None,
        should_stop,
        on_step,
    )
    trainer.refresh_reference()
    return statistics


def fit(
    parameters: Sequence[nn.Parameter],
    count: int,
    config: SftConfig,
    seed: int,
    backward: Callable[[Indices], dict[str, float]],
    held_out_loss: Callable[[], float] | None,
    should_stop: Callable[[int], bool] | None,
    on_step: Callable[[int, dict[str, float]], None] | None,
) -> dict[str, float]:
    """The loop of supervised training, with a fresh AdamW.

    Args:
        parameters: what is trained.
        count: number of examples.
        config, should_stop, on_step: as in `train_sft`.
        seed: of the order of the examples.
        backward: leaves the gradient of a batch, given as indices, and returns its statistics with its `loss`.
        held_out_loss: measures it; None where nothing is held out.

    Returns:
        The statistics of the last step: those of `backward`, and gradient_norm, learning_rate, steps, epochs (begun),
        held_out_loss (the latest; nan without).

    Raises:
        NonFiniteError: before a step that would spoil the weights.
    """
    optimizer, scheduler = build_optimizer(parameters, optimizer_config(config))
    generator = np.random.default_rng(seed)
    statistics: dict[str, float] = {}
    losses: list[float] = []
    for step, (epoch, batch) in enumerate(shuffled_batches(count, config, generator), start=1):
        rate = float(scheduler.get_last_lr()[0])
        optimizer.zero_grad(set_to_none=True)
        statistics = backward(batch)
        norm = clip_gradients(parameters, config.gradient_clip)
        if not (math.isfinite(statistics["loss"]) and math.isfinite(norm)):
            raise NonFiniteError(
                f"supervised step {step}: loss {statistics['loss']}, gradient norm {norm}; the weights are those of "
                "the step before. Lower learning_rate or look for damaged examples."
            )
        optimizer.step()
        scheduler.step()
        check = step >= config.check_from and step % config.check_every == 0
        if check and held_out_loss is not None:
            losses.append(held_out_loss())
        statistics |= {"gradient_norm": norm, "learning_rate": rate, "steps": float(step), "epochs": float(epoch)}
        statistics["held_out_loss"] = losses[-1] if losses else math.nan
        if on_step is not None:
            on_step(step, statistics)
        if check and (out_of_patience(losses, config.patience) or (should_stop is not None and should_stop(step))):
            break
    optimizer.zero_grad(set_to_none=True)
    return statistics


def cross_entropy(trainer: Trainer, examples: Sequence[Example], train: bool) -> tuple[float, int]:
    """Mean cross-entropy in nats over the completion tokens, and their number; with `train` also its gradient."""
    total = sum(len(completion) for _, completion in examples)
    segments = [Segment(prompt, (completion,), (i,)) for i, (prompt, completion) in enumerate(examples)]
    plan = plan_micro_batches(segments, trainer.config.micro_batch_tokens)
    loss = 0.0
    with torch.set_grad_enabled(train):
        for part in assign_micro_batches(plan, ranks.rank(), ranks.world_size(), trainer.cost):
            packed = pack(part or [DUMMY], trainer.device)
            fit_allocator(packed.tokens, trainer.config.micro_batch_tokens)
            logp, _ = trainer.policy(packed)
            micro = -logp.sum() / total * bool(part)
            if train:
                (micro * ranks.world_size()).backward()
            loss += float(micro.detach())
    if not train:
        ranks.reshard(trainer.policy)
    return ranks.all_reduce_sum(loss, trainer.device), total


def shuffled_batches(count: int, config: SftConfig, generator: np.random.Generator) -> Iterator[tuple[int, Indices]]:
    """(epoch from 1, indices) of every optimizer step; an incomplete last batch of an epoch is dropped."""
    size = min(config.batch_size, count)
    step = 0
    for epoch in range(1, config.epochs + 1):
        order = generator.permutation(count)
        for start in range(0, count - size + 1, size):
            if config.max_steps is not None and step >= config.max_steps:
                return
            step += 1
            yield epoch, order[start : start + size]


def out_of_patience(losses: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` held-out losses are all no better than the best before them."""
    return bool(patience and len(losses) > patience and min(losses[:-patience]) <= min(losses[-patience:]))


def optimizer_config(config: SftConfig) -> OptimizerConfig:
    """The AdamW of a supervised stage."""
    return OptimizerConfig(
        learning_rate=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        gradient_clip=config.gradient_clip,
    )
