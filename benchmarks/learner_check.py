"""A learning check on a bandit-like task: every objective must improve reward, and stale tokens must be survivable.

The prompt is one of 8 tokens, the answer 4 tokens, and the reward the share of answer tokens that equal the prompt. A
one-layer model learns it in some tens of steps, unless it is trained on tokens of old versions as if they were its own.
A teacher, for objectives that look at one, gives the right token a probability of TEACHER.
"""

from __future__ import annotations

import collections
import json as jsonlib
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.models import small_llama
from learner import Completion, Group, LearnerConfig, ObjectiveConfig, OptimizerConfig, Trainer
from learner.objective import PRESETS

SYMBOLS, LENGTH, PROMPTS, SAMPLES = 8, 4, 8, 16
STALE = 8
TEACHER = 0.9

# Trained on stale tokens as if they were fresh: what the corrections are measured against.
UNCORRECTED = {"name": "reinforce", "correction": "none"}
OBJECTIVES: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in PRESETS},
    # The published clips of GSPO belong to long answers, whose mean log-ratio is tiny; these belong to four tokens.
    "gspo": {"name": "gspo", "clip_low": 0.1, "clip_high": 0.1},
    "dr_grpo": {"name": "dr_grpo", "constant_length": LENGTH},
}
# The other corrections, as weights of the surrogate that is clipped against the proximal policy.
CORRECTIONS: dict[str, dict[str, Any]] = {
    f"decoupled_ppo, {name}": {
        "name": "decoupled_ppo",
        "correction": name,
        "correction_low": 0.2,
        "correction_high": 5.0,
    }
    for name in ("sequence_tis", "icepop", "sequence_mask", "kpop", "trust_region")
}


def make_model(folder: Path) -> Path:
    return small_llama(folder, SYMBOLS, max_position_embeddings=32, tie_word_embeddings=False)


@torch.no_grad()
def rollout(trainer: Trainer) -> list[Group]:
    """One group a prompt, sampled at temperature 1 from the current policy."""
    ids = torch.arange(PROMPTS).repeat_interleave(SAMPLES)[:, None]
    logprobs = []
    for _ in range(LENGTH):
        distribution = trainer.model(input_ids=ids).logits[:, -1].log_softmax(-1)
        chosen = torch.multinomial(distribution.exp(), 1)
        logprobs.append(distribution.gather(1, chosen))
        ids = torch.cat((ids, chosen), dim=1)
    right = ids[:, 1:] == ids[:, :1]
    halves = right.float().view(-1, 2, LENGTH // 2).mean(2)
    rewards = halves.mean(1).tolist()
    parts = [{"first half": a, "second half": b} for a, b in halves.tolist()]
    tokens, logp = ids[:, 1:].numpy().astype(np.int32), torch.cat(logprobs, dim=1).numpy()
    others = (1 - TEACHER) / (SYMBOLS - 1)
    taught = np.log(np.where(right.numpy(), TEACHER, others)).astype(np.float32)
    versions = np.full(LENGTH, trainer.version, dtype=np.int32)
    columns = zip(tokens, logp, rewards, parts, taught, strict=True)
    completions = [Completion(t, x, versions, r, parts=p, teacher_logprobs=y) for t, x, r, p, y in columns]
    return [
        Group(np.array([p], dtype=np.int32), tuple(completions[p * SAMPLES : (p + 1) * SAMPLES]), p)
        for p in range(PROMPTS)
    ]


def train(model: Path, objective: dict[str, Any], delay: int, seed: int, steps: int, rate: float) -> list[float]:
    """Mean reward of the policy before every step, each batch being exactly `delay` versions old when trained on."""
    config = LearnerConfig(
        dtype="float32",
        device="cpu",
        objective=ObjectiveConfig(**objective),
        optimizer=OptimizerConfig(learning_rate=rate, betas=(0.9, 0.99), warmup_steps=5),
    )
    trainer = Trainer(config, model, seed=seed)
    queue: collections.deque[list[Group]] = collections.deque()
    rewards = []
    for _ in range(steps):
        batch = rollout(trainer)
        rewards.append(statistics.mean(c.reward for g in batch for c in g.completions))
        queue.append(batch)
        # The queue is filled with batches of version 0 first: from then on each is `delay` versions old.
        while len(queue) <= delay:
            queue.append(rollout(trainer))
        trainer.train_step(queue.popleft())
    return rewards


def run(json: Path | None = None, steps: int = 100, rate: float = 3e-3, seeds: int = 3) -> dict[str, Any]:
    """Print the reward before training and at its end (mean of the last 20 steps), fresh and with stale tokens."""
    disable_progress_bar()
    result: dict[str, Any] = {"steps": steps, "learning_rate": rate, "seeds": seeds, "stale_versions": STALE}
    with tempfile.TemporaryDirectory(prefix="leeway-check-") as folder:
        model = make_model(Path(folder))
        result["fresh"] = _rows(model, {**OBJECTIVES, "uncorrected": UNCORRECTED}, 0, seeds, steps, rate)
        rows = {**OBJECTIVES, **CORRECTIONS, "uncorrected": UNCORRECTED}
        result["stale"] = _rows(model, rows, STALE, seeds, steps, rate)
    result |= _verdict(result["fresh"], result["stale"])
    print(f"\nfresh: every objective gains at least {result['least_gain']:+.3f} with every seed")
    print(f"{STALE} versions old, lead over the uncorrected objective with the same seed:")
    for name, leads in result["leads"].items():
        better = sum(lead > 0 for lead in leads)
        print(f"{name:28} mean {statistics.mean(leads):+.3f}, better with {better} of {len(leads)} seeds")
    if json is not None:
        json.write_text(jsonlib.dumps(result, indent=2))
    return result


def _rows(
    model: Path, objectives: Mapping[str, dict[str, Any]], delay: int, seeds: int, steps: int, rate: float
) -> dict[str, dict[str, list[float]]]:
    """Rewards of each objective, by seed: before the first step, and the mean of the last 20."""
    print(f"\ntokens {delay} versions old      start -> end, by seed", flush=True)
    rows: dict[str, dict[str, list[float]]] = {}
    for name, objective in objectives.items():
        curves = [train(model, objective, delay, seed, steps, rate) for seed in range(seeds)]
        rows[name] = {"start": [c[0] for c in curves], "end": [statistics.mean(c[-20:]) for c in curves]}
        pairs = zip(rows[name]["start"], rows[name]["end"], strict=True)
        print(f"{name:28} " + "   ".join(f"{a:.3f} -> {b:.3f}" for a, b in pairs), flush=True)
    return rows


def _verdict(fresh: Mapping[str, Any], stale: Mapping[str, Any]) -> dict[str, Any]:
    """The least rise of an objective on fresh tokens; the leads of the corrected over the uncorrected one on stale."""
    gains = [b - a for row in fresh.values() for a, b in zip(row["start"], row["end"], strict=True)]
    uncorrected = stale["uncorrected"]["end"]
    leads = {
        name: [mine - theirs for mine, theirs in zip(row["end"], uncorrected, strict=True)]
        for name, row in stale.items()
        if name != "uncorrected"
    }
    return {"least_gain": min(gains), "leads": leads}
