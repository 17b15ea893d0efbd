"""What it saves to compute a prompt once for a group, instead of once for each of its completions."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.terminal import say
from learner import LearnerConfig, Trainer
from learner.model.packing import Segment, pack, plan_micro_batches

GROUPS, SAMPLES, COMPLETION, BUDGET, ROUNDS = 8, 8, 64, 4096, 3
PROMPTS = (16, 64, 256, 768)


def run(model: Path, threads: int) -> list[dict[str, Any]]:
    """Forward and backward of groups whose prompts have 16 to 768 tokens, shared and repeated in turn, in CPU time."""
    torch.set_num_threads(threads)
    trainer = Trainer(LearnerConfig(dtype="float32", device="cpu"), model, seed=0)
    print()
    say(f"prompts computed once a group of {SAMPLES} completions of {COMPLETION} tokens, tiny Llama, float32")
    return [_row(trainer, length) for length in PROMPTS]


def _row(trainer: Trainer, length: int) -> dict[str, Any]:
    random = np.random.default_rng(length)
    vocabulary = trainer.model.config.vocab_size

    def draw(count: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        return random.integers(0, vocabulary, count).astype(np.int32)

    shared = [
        Segment(draw(length), tuple(draw(COMPLETION) for _ in range(SAMPLES)), tuple(range(SAMPLES)))
        for _ in range(GROUPS)
    ]
    repeated = [Segment(s.prompt, (c,), (i,)) for s in shared for i, c in enumerate(s.completions)]
    # In turn, so that a busy moment of the machine meets both.
    rounds = [(_seconds(trainer, shared), _seconds(trainer, repeated)) for _ in range(ROUNDS + 1)][1:]
    ratio = statistics.median(b / a for a, b in rounds)
    tokens = [sum(s.size for s in segments) for segments in (shared, repeated)]
    say(
        f"prompts of {length:3} tokens: {tokens[0]} tokens through the model instead of {tokens[1]}, "
        f"{ratio:.2f} x the speed",
        indent=2,
    )
    return {"prompt_tokens": length, "fed_tokens": tokens[0], "fed_tokens_repeated": tokens[1], "speedup": ratio}


def _seconds(trainer: Trainer, segments: list[Segment]) -> float:
    """CPU time of the forward and backward passes over all segments."""
    start = time.process_time()
    for part in plan_micro_batches(segments, BUDGET):
        logprobs, _ = trainer.policy(pack(part))
        logprobs.sum().backward()
    trainer.optimizer.zero_grad(set_to_none=True)
    return time.process_time() - start
