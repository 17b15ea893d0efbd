"""`python -m benchmarks logprobs`: how far engine and learner disagree about the same weights, and why it matters.

vLLM samples completions; the learner computes the log-probabilities of the same tokens with the same weights. The
difference is what importance-sampling corrections have to carry even on policy.
"""

import asyncio
import json as jsonlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from actors.config.model import SmolLm2Model, TinyModel
from actors.config.roles import GeneratorsConfig, SamplingConfig, VllmConfig
from actors.engines.protocol import SampledCompletion
from actors.engines.vllm import VllmEngine
from actors.models import prepare
from actors.replay.batch import Head, group_of
from actors.roles.groups import payload_of
from benchmarks.models import CACHE, mixture
from benchmarks.terminal import console
from learner import Group, LearnerConfig, Trainer

PROMPTS = 8
SAMPLES = 8
SAMPLING = SamplingConfig(max_tokens=48)
SUM = "{0}{1}{2}+{2}{0}{1}="
TEXT = {"tiny": SUM, "smollm2": "Question {0}: what is {1} plus {2}? Think step by step.\nAnswer:", "mixture": SUM}


def run(json: Path | None, trained: Path | None = None, models: Path = CACHE) -> None:
    """Print mean, 99th percentile and maximum of |logprob(engine) - logprob(learner)|, in nats.

    `trained`: a trained tiny model, such as RUN/model of the quickstart; without one, a model with random weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        folders = {
            "tiny": trained or prepare(TinyModel(kind="tiny"), models, 0),
            "smollm2": prepare(SmolLm2Model(kind="smollm2"), models, 0),
            "mixture": mixture(Path(folder)),
        }
        rows = [
            row
            for name, path in folders.items()
            for dtype in ("float32", "bfloat16")
            for row in _rows(name, path, dtype)
        ]
    columns = ("model", "dtype on both sides", "router replay", "tokens", "mean", "p99", "max")
    table = Table(*columns, title="|engine - learner|, nats")
    for row in rows:
        figures = (f"{row[key]:.2g}" for key in ("mean", "p99", "max"))
        replayed = "yes" if row["router_replay"] else "no"
        table.add_row(row["model"], row["dtype"], replayed, str(row["tokens"]), *figures)
    console.print(table)
    if json:
        json.write_text(jsonlib.dumps(rows, indent=2))


def _rows(name: str, folder: Path, dtype: str) -> list[dict[str, Any]]:
    """One model in one dtype; one with experts without and with their routing, on the same tokens."""
    routed = name == "mixture"
    groups = asyncio.run(_sample(name, folder, dtype, routed))
    return [
        {"model": name, "dtype": dtype, "router_replay": replay, **measure(groups, folder, dtype, replay)}
        for replay in ([False, True] if routed else [False])
    ]


def measure(groups: Sequence[Group], folder: Path, dtype: str, router_replay: bool) -> dict[str, Any]:
    """How far the learner is from what the engine said of some groups."""
    config = LearnerConfig(dtype=dtype, device="cpu", router_replay=router_replay, optimizer={"learning_rate": 1e-12})
    statistics = Trainer(config, folder, 0).train_step(groups)
    prefix = "logprob_difference_"
    return {key: statistics[prefix + key] for key in ("mean", "p99", "max")} | {
        "tokens": int(statistics[prefix + "tokens"])
    }


async def _sample(name: str, folder: Path, dtype: str, routed: bool) -> list[Group]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    vllm = VllmConfig(max_model_len=128, max_num_seqs=64, prefix_cache="per_version" if routed else "off")
    engine = VllmEngine(GeneratorsConfig(dtype=dtype, vllm=vllm), folder, tokenizer, seed=0, routed_experts=routed)
    await engine.start()
    try:
        prompts = [
            tokenizer.encode(TEXT[name].format(i, i + 1, (3 * i) % 10), add_special_tokens=False)
            for i in range(PROMPTS)
        ]
        sampled = await asyncio.gather(*(engine.generate(prompt, SAMPLES, SAMPLING) for prompt in prompts))
    finally:
        await engine.close()
    return [as_trained(prompt, group) for prompt, group in zip(prompts, sampled, strict=True)]


def as_trained(prompt: list[int], sampled: list[SampledCompletion]) -> Group:
    """What a learner gets of a group. Rewards alternate: every completion has an advantage, and none is skipped."""
    rewards = [float(i % 2) for i in range(len(sampled))]
    head = Head(group_id=0, source="", rewards=rewards, parts=[{}] * len(sampled))
    return group_of(head, payload_of(prompt, sampled, replayed=True))
