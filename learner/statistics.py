"""Statistics of a training step: their names, their meaning, and how they are computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learner.algorithms.divergences import kl_estimate
from learner.algorithms.loss import TokenQuantities, advantages, old_logprobs, token_weights
from learner.algorithms.objectives import sequence_mean, token_divergence
from learner.algorithms.samples import Sample
from learner.batch import Completion
from learner.distributed import ranks
from learner.model.flops import model_flops
from learner.objective import ObjectiveConfig

Array = npt.NDArray[np.float64]
REWARD_PART = "reward/"

# name -> meaning, with its unit. `Trainer.train_step` returns exactly these keys, and `reward/NAME` for the mean of
# every part of the reward that the batch names, before its weight.
STATISTICS: dict[str, str] = {
    "loss": "loss of the step, summed over its micro-batches",
    "reward_mean": "mean reward of all completions",
    "reward_std": "standard deviation of the rewards of all completions",
    "advantage_absolute_mean": "mean |A| over all completions; of a teacher's advantages over the trained tokens",
    "advantage_min": "smallest advantage",
    "advantage_max": "largest advantage",
    "entropy": "mean entropy of the policy at trained tokens, nats",
    "behaviour_entropy": "minus the mean engine logprob over all sampled tokens: entropy of the sampling policy, nats",
    "kl": "mean estimate of KL(policy || reference) at trained tokens, nats; 0 without a reference",
    "reverse_kl": "mean log mu - log pi_T at trained tokens: KL(behaviour || teacher), nats; 0 without a teacher",
    "behaviour_kl": "mean log mu - log pi at trained tokens: KL(behaviour || policy), nats",
    "ratio_min": "smallest ratio pi / pi_old of a trained token; with gspo that of its sequence, s_i",
    "ratio_mean": "mean of the same",
    "ratio_max": "largest of the same",
    "clip_fraction_low": "share of trained tokens on which the lower bound acts (dppo: divergence_bound)",
    "clip_fraction_high": "share of trained tokens on which the upper bound acts (dppo: divergence_bound)",
    "weight_mean": "mean weight that correction and age give to a trained token; 1 without either",
    "masked_fraction": "share of trained tokens to which correction or age give the weight 0",
    "effective_sample_size": "(sum r)^2 / (T sum r^2) of the ratios policy / behaviour, 0..1",
    "logprob_difference_mean": "mean |engine - learner| logprob on completions of the current version throughout, nats",
    "logprob_difference_p99": "99th percentile of the same",
    "logprob_difference_max": "maximum of the same",
    "logprob_difference_tokens": "number of tokens that were compared",
    "staleness_mean": "mean age of the trained tokens, versions",
    "staleness_max": "largest age of a trained token, versions",
    "gradient_norm": "global gradient norm before clipping",
    "learning_rate": "learning rate of the step",
    "tokens": "sampled tokens in the batch: completion tokens without those that a loss mask excludes",
    "trained_tokens": "sampled tokens that were trained on (the others had no gradient)",
    "replayed_fraction": "share of the tokens through the model that were sent to the experts which the engine chose; "
    "0 without learner.router_replay",
    "teraflops": "model TFLOP/s of the step: 6 x active parameters x tokens that went through the model",
    "mfu": "model FLOP utilisation: teraflops over `peak_teraflops`, or over the measured peak where that is not set",
    "tokens_per_second": "sampled tokens of the batch a second of this step",
    "seconds": "wall time of the step",
    "response_length_mean": "mean completion length, tokens, masked ones included",
    "response_length_max": "longest completion, tokens, masked ones included",
    "truncated_fraction": "share of completions that the length limit ended",
    "mixed_groups_fraction": "share of groups whose rewards are not all equal",
    "optimizer_steps": "optimizer steps taken on the batch; 0 when nothing had a gradient or it was not finite",
    "non_finite": "optimizer steps skipped because their loss or gradient was not finite (their loss counts as 0)",
}


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """Per-token values of what was trained on, [T] each: `loss.TokenQuantities` after the fact.

    Attributes:
        logp, behaviour: logprobs under the policy and under the engine, nats.
        entropy, kl, reverse_kl: nats.
        ratio: pi / pi_old as the objective uses it, at most e^50.
        advantages: A_t.
        age: versions.
        weight: c_t a_t of `loss.token_weights`.
        comparable: whether the engine's logprob should equal the learner's.
    """

    logp: Array
    entropy: Array
    ratio: Array
    behaviour: Array
    advantages: Array
    age: Array
    weight: Array
    kl: Array
    reverse_kl: Array
    comparable: npt.NDArray[np.bool_]

    @classmethod
    def concatenate(cls, records: Sequence[TokenRecord]) -> TokenRecord:
        """One record of all tokens."""
        return cls(*(np.concatenate([getattr(r, f) for r in records]) for f in cls.__dataclass_fields__))

    @classmethod
    def empty(cls) -> TokenRecord:
        """The record of no tokens."""
        none = np.zeros(0)
        return cls(none, none, none, none, none, none, none, none, none, comparable=none > 0)


def token_record(x: TokenQuantities, o: ObjectiveConfig, comparable: bool) -> TokenRecord:
    """The record of a micro-batch.

    Args:
        x: its tokens.
        o: the objective.
        comparable: whether its policy is still the one of the step's beginning.
    """

    def array(tensor: Tensor) -> Array:
        return tensor.detach().double().cpu().numpy()

    reference = x.logp if x.reference is None else x.reference
    # A completion that was under way during an update attends to a cache of older weights: its newest tokens are of
    # the current version and still not on policy, so only completions without an older token are compared.
    oldest = torch.zeros(len(x.lengths), dtype=x.age.dtype, device=x.age.device)
    oldest.scatter_reduce_(0, x.sequence, x.age, "amax")
    current = oldest == 0 if x.whole is None else (oldest == 0) & x.whole
    log_ratio = x.logp.detach() - old_logprobs(x, o)
    if o.loss == "gspo":
        log_ratio = sequence_mean(log_ratio, x.sequence, x.lengths)[x.sequence]
    weights = token_weights(x, o)
    return TokenRecord(
        logp=array(x.logp),
        entropy=array(x.entropy),
        ratio=np.exp(np.minimum(array(log_ratio), 50.0)),
        behaviour=array(x.behaviour),
        advantages=array(advantages(x, o)),
        age=array(x.age),
        weight=array(torch.ones_like(x.age) if weights is None else weights),
        kl=array(kl_estimate(o.kl, x.logp.detach(), reference)),
        reverse_kl=array(kl_estimate("k1", x.behaviour, x.behaviour if x.teacher is None else x.teacher)),
        comparable=(array(current[x.sequence]) > 0) & comparable,
    )


def compute_statistics(
    statistics: Mapping[str, float],
    steps: Sequence[Mapping[str, float]],
    device: torch.device,
    seconds: float,
    parameters: int,
    peak: float,
) -> dict[str, float]:
    """Speed of a step, and how much of it was replayed.

    Args:
        statistics: of the step, with its `tokens`.
        steps: this rank's `fed_tokens` and `replayed_tokens` in each optimizer step.
        device: of the collectives, which every rank takes part in.
        seconds: wall time of the step.
        parameters: that a token passes through.
        peak: what all devices together could do, TFLOP/s.
    """
    own = {name: sum(step[name] for step in steps) for name in ("fed_tokens", "replayed_tokens")}
    total = ranks.all_reduce(own, device)
    teraflops = model_flops(parameters, total["fed_tokens"]) / seconds / 1e12
    return {
        "seconds": seconds,
        "tokens_per_second": statistics["tokens"] / seconds,
        "teraflops": teraflops,
        "replayed_fraction": total["replayed_tokens"] / max(total["fed_tokens"], 1.0),
        "mfu": teraflops / peak,
    }


def batch_statistics(groups: Sequence[Sequence[Sample]]) -> dict[str, float]:
    """What rewards and lengths say, over all completions of the batch."""
    samples = [s for group in groups for s in group]
    completions = [s.completion for s in samples]
    rewards = np.array([c.reward for c in completions])
    advantages = np.array([s.advantage for s in samples])
    lengths = np.array([len(c.tokens) for c in completions])
    mixed = [len({s.completion.reward for s in group}) > 1 for group in groups]
    return {
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        **_reward_parts(completions),
        "advantage_absolute_mean": float(np.abs(advantages).mean()),
        "advantage_min": float(advantages.min()),
        "advantage_max": float(advantages.max()),
        "behaviour_entropy": float(
            -np.concatenate([c.unmasked(c.logprobs) for c in completions]).mean(dtype=np.float64)
        ),
        "tokens": float(sum(c.unmasked_tokens for c in completions)),
        "response_length_mean": float(lengths.mean()),
        "response_length_max": float(lengths.max()),
        "truncated_fraction": float(np.mean([c.truncated for c in completions])),
        "mixed_groups_fraction": float(np.mean(mixed)),
    }


def _reward_parts(completions: Sequence[Completion]) -> dict[str, float]:
    """Mean of every part over the completions that have it."""
    values: dict[str, list[float]] = {}
    for completion in completions:
        for name, value in completion.parts.items():
            values.setdefault(name, []).append(value)
    return {f"{REWARD_PART}{name}": float(np.mean(values[name])) for name in sorted(values)}


def token_statistics(records: Sequence[TokenRecord], config: ObjectiveConfig, device: torch.device) -> dict[str, float]:
    """What the trained tokens of all ranks say. Without any, ratios are 1 and everything else is 0.

    A rank reduces its own records, of which there may be millions; sums, extremes and the largest hundredth of what the
    percentile is of are all that travels.

    Args:
        records: of this rank.
        config: the objective.
        device: of the collectives, which every rank takes part in.
    """
    x = TokenRecord.concatenate(records) if records else TokenRecord.empty()
    apart = np.abs(x.behaviour - x.logp)[x.comparable]
    total = ranks.all_reduce(_sums(x, apart, config), device)
    largest = ranks.all_reduce(_extremes(x, apart), device, largest=True)
    compared, count = int(total.pop("compared")), total.pop("trained_tokens")
    found = {
        "trained_tokens": count,
        "logprob_difference_mean": total.pop("difference") / max(compared, 1),
        "logprob_difference_p99": _percentile(apart, compared, device),
        "logprob_difference_max": max(largest["difference"], 0.0),
        "logprob_difference_tokens": float(compared),
    }
    weights, squares, advantages = (total.pop(name) for name in ("weights", "squares", "advantages"))
    if not count:
        ones = ("ratio_min", "ratio_mean", "ratio_max", "effective_sample_size", "weight_mean")
        return {**dict.fromkeys([*total, "staleness_max"], 0.0), **dict.fromkeys(ones, 1.0), **found}
    found |= {name: value / count for name, value in total.items()}
    found |= {
        "ratio_min": -largest["minus_ratio"],
        "ratio_max": largest["ratio"],
        "effective_sample_size": weights**2 / (count * squares),
        "staleness_max": largest["age"],
    }
    if config.advantage == "teacher":  # each token has one of its own, which `batch_statistics` knows nothing of
        found |= {
            "advantage_absolute_mean": advantages / count,
            "advantage_min": -largest["minus_advantage"],
            "advantage_max": largest["advantage"],
        }
    return found


def _sums(x: TokenRecord, apart: Array, config: ObjectiveConfig) -> dict[str, float]:
    """Sums over tokens: those of means by the name of the mean, and what else `token_statistics` is made of."""
    weight = np.exp(np.minimum(x.logp - x.behaviour, 50.0))
    low, high = _clipped(x, config)
    of = {
        "entropy": x.entropy,
        "kl": x.kl,
        "reverse_kl": x.reverse_kl,
        "behaviour_kl": x.behaviour - x.logp,
        "ratio_mean": x.ratio,
        "clip_fraction_low": low,
        "clip_fraction_high": high,
        "weight_mean": x.weight,
        "masked_fraction": x.weight == 0,
        "staleness_mean": x.age,
        "weights": weight,
        "squares": np.square(weight),
        "advantages": np.abs(x.advantages),
        "difference": apart,
    }
    counts = {"trained_tokens": float(len(x.logp)), "compared": float(len(apart))}
    return {name: float(values.sum()) for name, values in of.items()} | counts


def _extremes(x: TokenRecord, apart: Array) -> dict[str, float]:
    """The largest of what each is named after; -inf of no tokens."""
    of = {
        "ratio": x.ratio,
        "minus_ratio": -x.ratio,
        "age": x.age,
        "advantage": x.advantages,
        "minus_advantage": -x.advantages,
        "difference": apart,
    }
    return {name: float(values.max(initial=-np.inf)) for name, values in of.items()}


def _percentile(own: Array, count: int, device: torch.device) -> float:
    """The 99th percentile of the `count` numbers of all ranks, as `np.percentile` has it; 0 of none.

    It lies between two of the largest hundredth, and no rank can have more of that than all have.
    """
    place = 0.99 * (count - 1)
    tail = count - math.floor(place)
    largest = np.sort(ranks.gather(np.sort(own)[-tail:], device))[-tail:]
    if not count:
        return 0.0
    share = place - math.floor(place)
    return float(largest[0] + share * (largest[min(1, tail - 1)] - largest[0]))


def _clipped(x: TokenRecord, o: ObjectiveConfig) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether the lower and the upper bound act on each token, [T] each."""
    low, high = x.ratio < 1 - o.clip_low, x.ratio > 1 + o.clip_high
    if o.loss in ("reinforce", "sapo", "kl_cov"):
        return np.zeros_like(low), np.zeros_like(high)
    if o.loss == "dppo":
        logp = torch.from_numpy(x.logp)
        moved = token_divergence(logp, logp - torch.from_numpy(x.ratio).log(), o.divergence).numpy()
        low, high = (x.ratio < 1) & (moved > o.divergence_bound), (x.ratio > 1) & (moved > o.divergence_bound)
    if o.loss == "cispo":  # bounds the weight, whatever the sign of the advantage
        return low, high
    return low & (x.advantages < 0), high & (x.advantages > 0)
