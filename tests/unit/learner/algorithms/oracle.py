"""Objectives written a second time, naively: one scalar at a time, in double precision, from the papers' equations.

Nothing here is imported from `learner`. Gradients come from autograd over these loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

Scalar = torch.Tensor


@dataclass
class Answer:
    """One completion: lists of 0-dimensional float64 tensors and plain floats, one per token."""

    logp: list[Scalar]
    behaviour: list[float]
    proximal: list[float]
    reference: list[float]
    entropy: list[Scalar]
    age: list[int]
    reward: float
    mask: list[int]  # 0: the policy did not write this token
    teacher: list[float]

    @property
    def parts(self) -> dict[str, float]:
        """Parts whose sum with the weights 1 and 0.1 is the reward."""
        accuracy = float(self.reward >= 1)
        return {"accuracy": accuracy, "format": float(self.reward - accuracy > 0.05)}

    @property
    def sampled(self) -> list[int]:
        """Positions of the tokens that the policy wrote: the tokens o_i,t of the papers, |o_i| of them."""
        return [t for t in range(len(self.logp)) if self.mask[t] == 1]


Batch = list[list[Answer]]  # groups of answers
TokenTerm = Callable[[Answer, int, float], Scalar]


def clip(value: Scalar, low: float, high: float) -> Scalar:
    if value.item() < low:
        return torch.tensor(low, dtype=torch.float64)
    if value.item() > high:
        return torch.tensor(high, dtype=torch.float64)
    return value


def smaller(a: Scalar, b: Scalar) -> Scalar:
    return a if a.item() <= b.item() else b


def normalised(group: list[Answer]) -> list[float]:
    """A_i = (r_i - mean) / (std + 1e-4), unbiased std; 0 when there is nothing to compare."""
    rewards = [a.reward for a in group]
    if all(r == rewards[0] for r in rewards):
        return [0.0] * len(group)
    mean = math.fsum(rewards) / len(rewards)
    variance = math.fsum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1)
    return [(r - mean) / (math.sqrt(variance) + 1e-4) for r in rewards]


def centred(group: list[Answer]) -> list[float]:
    rewards = [a.reward for a in group]
    if all(r == rewards[0] for r in rewards):
        return [0.0] * len(group)
    return [r - math.fsum(rewards) / len(rewards) for r in rewards]


def leave_one_out(group: list[Answer]) -> list[float]:
    rewards = [a.reward for a in group]
    if len(group) == 1 or all(r == rewards[0] for r in rewards):
        return [0.0] * len(group)
    return [r - (math.fsum(rewards) - r) / (len(rewards) - 1) for r in rewards]


def over_mean(group: list[Answer]) -> list[float]:
    """(r_i - mean) / mean, and nothing where nothing was right."""
    rewards = [a.reward for a in group]
    mean = math.fsum(rewards) / len(rewards)
    if len(group) == 1 or all(r == rewards[0] for r in rewards) or mean <= 0:
        return [0.0] * len(group)
    return [r / mean - 1 for r in rewards]


def by_part(batch: Batch, weights: dict[str, float]) -> Callable[[list[Answer]], list[float]]:
    """Every part normalised in its group, the weighted sum normalised over the batch."""
    sums: dict[int, list[float]] = {}
    for group in batch:
        parts = {k: normalised([replace(a, reward=a.parts[k]) for a in group]) for k in weights}
        sums[id(group)] = [math.fsum(w * parts[k][i] for k, w in weights.items()) for i in range(len(group))]
    every = [s for row in sums.values() for s in row]
    mean = math.fsum(every) / len(every)
    variance = math.fsum((s - mean) ** 2 for s in every) / max(1, len(every) - 1)
    return lambda group: [(s - mean) / (math.sqrt(variance) + 1e-4) for s in sums[id(group)]]


def bare(group: list[Answer]) -> list[float]:
    return [a.reward for a in group]


def per_sequence(batch: Batch, advantages: Callable[[list[Answer]], list[float]], term: TokenTerm) -> Scalar:
    """1/|Q| sum_q 1/G sum_i 1/|o_i| sum_t term."""
    total = torch.tensor(0.0, dtype=torch.float64)
    for group in batch:
        inner = torch.tensor(0.0, dtype=torch.float64)
        for answer, a in zip(group, advantages(group), strict=True):
            tokens = torch.tensor(0.0, dtype=torch.float64)
            for t in answer.sampled:
                tokens = tokens + term(answer, t, a)
            inner = inner + tokens / len(answer.sampled)
        total = total + inner / len(group)
    return total / len(batch)


def per_token(batch: Batch, advantages: Callable[[list[Answer]], list[float]], term: TokenTerm) -> Scalar:
    """1 / (sum |o_i|) sum sum term."""
    total, count = torch.tensor(0.0, dtype=torch.float64), 0
    for group in batch:
        for answer, a in zip(group, advantages(group), strict=True):
            for t in answer.sampled:
                total = total + term(answer, t, a)
                count += 1
    return total / count


def by_constant(
    batch: Batch, advantages: Callable[[list[Answer]], list[float]], term: TokenTerm, constant: int
) -> Scalar:
    total = torch.tensor(0.0, dtype=torch.float64)
    for group in batch:
        inner = torch.tensor(0.0, dtype=torch.float64)
        for answer, a in zip(group, advantages(group), strict=True):
            for t in answer.sampled:
                inner = inner + term(answer, t, a) / constant
        total = total + inner / len(group)
    return total / len(batch)


def ppo_term(low: float, high: float, old: str = "behaviour", dual: float | None = None) -> TokenTerm:
    def term(answer: Answer, t: int, a: float) -> Scalar:
        r = torch.exp(answer.logp[t] - getattr(answer, old)[t])
        value = smaller(r * a, clip(r, 1 - low, 1 + high) * a)
        if dual is not None and a < 0 and value.item() < dual * a:
            return torch.tensor(dual * a, dtype=torch.float64)
        return value

    return term


def gspo_term(low: float, high: float) -> TokenTerm:
    def term(answer: Answer, t: int, a: float) -> Scalar:
        del t
        log_s = torch.tensor(0.0, dtype=torch.float64)
        for i in answer.sampled:
            log_s = log_s + (answer.logp[i] - answer.behaviour[i])
        s = torch.exp(log_s / len(answer.sampled))
        return smaller(s * a, clip(s, 1 - low, 1 + high) * a)

    return term


def cispo_term(low: float, high: float) -> TokenTerm:
    def term(answer: Answer, t: int, a: float) -> Scalar:
        r = math.exp(answer.logp[t].item() - answer.behaviour[t])
        return min(max(r, 1 - low), 1 + high) * a * answer.logp[t]

    return term


def sapo_term(positive: float, negative: float) -> TokenTerm:
    def term(answer: Answer, t: int, a: float) -> Scalar:
        r = torch.exp(answer.logp[t] - answer.behaviour[t])
        tau = positive if a > 0 else negative
        return 4 / tau * a / (1 + torch.exp(-tau * (r - 1)))

    return term


def total_variation(pi: float, mu: float) -> float:
    return abs(pi - mu)


def binary_kl(pi: float, mu: float) -> float:
    return mu * math.log(mu / pi) + (1 - mu) * math.log((1 - mu) / (1 - pi))


def dppo_term(distance: Callable[[float, float], float], bound: float) -> TokenTerm:
    def term(answer: Answer, t: int, a: float) -> Scalar:
        pi, mu = math.exp(answer.logp[t].item()), math.exp(answer.behaviour[t])
        if distance(pi, mu) > bound and ((a > 0 and pi > mu) or (a < 0 and pi < mu)):
            return torch.tensor(0.0, dtype=torch.float64)
        return torch.exp(answer.logp[t]) / mu * a

    return term


Advantages = Callable[[list[Answer]], list[float]]


def covariances(batch: Batch, advantages: Advantages) -> dict[tuple[int, int], float]:
    """Cov of every token of an answer that has an advantage, by answer and position, in order."""
    tokens = [
        (answer, t, a)
        for group in batch
        for answer, a in zip(group, advantages(group), strict=True)
        for t in answer.sampled
        if a != 0
    ]
    if not tokens:
        return {}
    logp = math.fsum(answer.proximal[t] for answer, t, _ in tokens) / len(tokens)
    mean = math.fsum(a for _, _, a in tokens) / len(tokens)
    return {(id(answer), t): (answer.proximal[t] - logp) * (a - mean) for answer, t, a in tokens}


def clip_cov(batch: Batch, advantages: Advantages, term: TokenTerm, low: float, high: float) -> TokenTerm:
    """Every token between the bounds left out."""
    found = covariances(batch, advantages)
    zero = torch.tensor(0.0, dtype=torch.float64)
    return lambda answer, t, a: zero if low <= found.get((id(answer), t), math.inf) <= high else term(answer, t, a)


def kl_cov(batch: Batch, advantages: Advantages, share: float, beta: float) -> TokenTerm:
    found = covariances(batch, advantages)
    ranked = sorted(found, key=lambda token: -found[token])
    apart = set(ranked[: max(1, int(share * len(ranked)))])

    def term(answer: Answer, t: int, a: float) -> Scalar:
        log_r = answer.logp[t] - answer.behaviour[t]
        return torch.exp(log_r) * a - (beta * torch.abs(log_r) if (id(answer), t) in apart else 0.0)

    return term


def with_log_ratio(term: TokenTerm, tau: float) -> TokenTerm:
    return lambda answer, t, a: term(answer, t, a) - tau * (answer.logp[t] - answer.behaviour[t]) ** 2


def rho(answer: Answer, t: int) -> float:
    return math.exp(answer.proximal[t] - answer.behaviour[t])


def sequence_rho(answer: Answer) -> float:
    product = 1.0
    for t in answer.sampled:
        product *= rho(answer, t)
    return product


def kpop(answer: Answer, t: int, phi: float) -> float:
    pi, mu = math.exp(answer.proximal[t]), math.exp(answer.behaviour[t])
    return pi / mu if binary_kl(pi, mu) <= phi and binary_kl(mu, pi) <= phi else 0.0


def trust_region(answer: Answer, delta: float) -> float:
    return float(all(math.log(rho(answer, t)) ** 2 / 2 <= delta for t in answer.sampled))


def weighted(term: TokenTerm, weight: Callable[[Answer, int], float]) -> TokenTerm:
    return lambda answer, t, a: weight(answer, t) * term(answer, t, a)


def with_kl(term: TokenTerm, kind: str, beta: float) -> TokenTerm:
    def penalised(answer: Answer, t: int, a: float) -> Scalar:
        difference = answer.logp[t] - answer.reference[t]
        if kind == "k1":
            kl = difference
        elif kind == "k2":
            kl = difference * difference / 2
        else:
            kl = torch.exp(-difference) + difference - 1
        return term(answer, t, a) - beta * kl

    return penalised


def with_entropy(term: TokenTerm, eta: float) -> TokenTerm:
    return lambda answer, t, a: term(answer, t, a) + eta * answer.entropy[t]


def taught(answer: Answer, t: int, _: float) -> Scalar:
    """On-policy distillation: (log pi_T - log pi_old) log pi, whatever the reward."""
    return (answer.teacher[t] - answer.proximal[t]) * answer.logp[t]


def taught_ppo(answer: Answer, t: int, _: float) -> Scalar:
    """The same advantage in PPO's clip, where the old policy is the one that has sampled."""
    return ppo_term(0.2, 0.2)(answer, t, answer.teacher[t] - answer.behaviour[t])


def reinforce_term(answer: Answer, t: int, a: float) -> Scalar:
    return a * answer.logp[t]
