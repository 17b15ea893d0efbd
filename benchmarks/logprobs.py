"""`python -m benchmarks logprobs`: how far engine and learner disagree about the same weights, and why it matters.

vLLM samples completions; the learner computes the log-probabilities of the same tokens with the same weights. The
difference is what importance-sampling corrections have to carry even on policy.
"""

import asyncio
import json as jsonlib
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from actors.config.model import SmolLm2Model, TinyModel
from actors.config.roles import GeneratorsConfig, SamplingConfig, VllmConfig
from actors.engines.protocol import SampledCompletion
from actors.engines.vllm import VllmEngine
from actors.models import prepare
from benchmarks.models import CACHE
from benchmarks.terminal import console
from learner import Completion, Group, LearnerConfig, Trainer

PROMPTS = 8
SAMPLES = 8
SAMPLING = SamplingConfig(max_tokens=48)
TEXT = {"tiny": "{0}{1}{2}+{2}{0}{1}=", "smollm2": "Question {0}: what is {1} plus {2}? Think step by step.\nAnswer:"}


def run(json: Path | None, trained: Path | None = None, models: Path = CACHE) -> None:
    """Print mean, 99th percentile and maximum of |logprob(engine) - logprob(learner)|, in nats.

    `trained`: a trained tiny model, such as RUN/model of the quickstart; without one, a model with random weights.
    """
    folders = {
        "tiny": trained or prepare(TinyModel(kind="tiny"), models, 0),
        "smollm2": prepare(SmolLm2Model(kind="smollm2"), models, 0),
    }
    rows = [
        {"model": name, "dtype": dtype, **measure(name, folder, dtype)}
        for name, folder in folders.items()
        for dtype in ("float32", "bfloat16")
    ]
    table = Table("model", "dtype on both sides", "tokens", "mean", "p99", "max", title="|engine - learner|, nats")
    for row in rows:
        figures = (f"{row[key]:.2g}" for key in ("mean", "p99", "max"))
        table.add_row(row["model"], row["dtype"], str(row["tokens"]), *figures)
    console.print(table)
    if json:
        json.write_text(jsonlib.dumps(rows, indent=2))


def measure(name: str, folder: Path, dtype: str) -> dict[str, Any]:
    """The statistics of one model in one dtype."""
    groups = asyncio.run(_sample(name, folder, dtype))
    config = LearnerConfig(dtype=dtype, device="cpu", optimizer={"learning_rate": 1e-12})
    statistics = Trainer(config, folder, 0).train_step(groups)
    prefix = "logprob_difference_"
    return {key: statistics[prefix + key] for key in ("mean", "p99", "max")} | {
        "tokens": int(statistics[prefix + "tokens"])
    }


async def _sample(name: str, folder: Path, dtype: str) -> list[Group]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    vllm = VllmConfig(max_model_len=128, max_num_seqs=64)
    engine = VllmEngine(GeneratorsConfig(dtype=dtype, vllm=vllm), folder, tokenizer, seed=0)
    await engine.start()
    try:
        prompts = [
            tokenizer.encode(TEXT[name].format(i, i + 1, (3 * i) % 10), add_special_tokens=False)
            for i in range(PROMPTS)
        ]
        sampled = await asyncio.gather(*(engine.generate(prompt, SAMPLES, SAMPLING) for prompt in prompts))
    finally:
        await engine.close()
    return [_group(prompt, group) for prompt, group in zip(prompts, sampled, strict=True)]


def _group(prompt: list[int], sampled: list[SampledCompletion]) -> Group:
    """Rewards alternate, so that every completion has an advantage and none is skipped."""
    completions = tuple(
        Completion(s.tokens, s.logprobs, np.zeros(len(s.tokens), np.int32), float(i % 2)) for i, s in enumerate(sampled)
    )
    return Group(np.asarray(prompt, np.int32), completions)
