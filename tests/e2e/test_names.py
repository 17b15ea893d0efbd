"""Real vLLM engines take the weights of every family as the learner sends them, and compute what the learner does."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.config.roles import GeneratorsConfig, VllmConfig
from actors.engines.vllm import VllmEngine
from actors.models.tiny import VOCABULARY, tokenizer
from benchmarks.families import FAMILIES, family
from learner import LearnerConfig, Trainer
from tests.e2e.updates import PROMPT, SAMPLING, logprobs_of, move, publisher_for, subscribed

pytestmark = pytest.mark.e2e

CONTEXT = 128
#: Not these: of weights that it has loaded by itself vLLM 0.32 computes something else on a CPU than `transformers`,
#: by its latent attention and, of GPT-NeoX, which it does not know, by its backend for other models.
APART = {"deepseek-v3", "gpt-neox"}
CONFIG = LearnerConfig(dtype="float32", device="cpu", threads=1)
#: Largest difference of log-probabilities (nats) between two right float32 passes.
TOLERANCE = 1e-3


def changed(folder: Path) -> Trainer:
    """A learner whose every parameter has moved far from the folder that engines loaded."""
    trainer = Trainer(CONFIG, folder, seed=0)
    torch.manual_seed(1)
    move(trainer.model.parameters())
    return trainer


def difference(model: Any, completions: list[Any]) -> float:
    """The largest one, of what the engine reported from what `model` says."""
    return max(float(np.abs(logprobs_of(model, d.tokens) - d.logprobs).max()) for d in completions)


async def served(folder: Path, own_tokenizer: Any, learner: Trainer) -> tuple[list[Any], list[Any]]:
    """Completions of the engine before the update and after it."""
    config = GeneratorsConfig(dtype="float32", vllm=VllmConfig(max_model_len=CONTEXT, max_num_seqs=8), seeded=True)
    engine = VllmEngine(config, folder, own_tokenizer, seed=1)
    await engine.start()
    publisher = publisher_for(2**18, lambda _: None)
    try:
        before = await engine.generate(PROMPT, 2, SAMPLING)
        async with subscribed(publisher, [engine]):
            publisher.publish(1, learner.snapshot())
            assert await asyncio.to_thread(publisher.wait, 1, 60)
            return before, await engine.generate(PROMPT, 2, SAMPLING)
    finally:
        await engine.close()


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - APART))
def test_an_engine_computes_what_the_learner_sent(name: str, tmp_path: Path) -> None:
    folder = family(name, tmp_path, vocabulary=VOCABULARY, heads=32, hidden=128)
    own_tokenizer = tokenizer(CONTEXT)
    own_tokenizer.save_pretrained(folder)
    learner = changed(folder)
    before, after = asyncio.run(asyncio.wait_for(served(folder, own_tokenizer, learner), 800))
    own, original = learner.model, Trainer(CONFIG, folder, seed=0).model
    for model in (own, original):
        model.set_attn_implementation("eager")
    found, worst, without = difference(original, before), difference(own, after), difference(own, before)
    print(f"{name}: {worst:.2g} nats; before the update {found:.2g}, and {without:.2g} from what is sent")
    assert sum(len(d.tokens) for d in after) > 1
    assert found < TOLERANCE, "the engine computes something else, whatever is sent"
    assert worst < TOLERANCE
    assert without > 10 * TOLERANCE, "the update changes nothing that this test could see"
