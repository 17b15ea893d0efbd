"""Real vLLM engines take the weights of every family as the learner sends them, and compute what the learner does."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from actors.config.model import TinyModel
from actors.config.roles import GeneratorsConfig, SamplingConfig, VllmConfig
from actors.engines.vllm import VllmEngine
from actors.models import prepare
from benchmarks.families import FAMILIES, family
from learner import LearnerConfig, Trainer
from tests.e2e.updates import publisher_for, subscribed

pytestmark = pytest.mark.e2e

SAMPLING = SamplingConfig(max_tokens=100)
PROMPT = [8, 9, 10, 11]

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
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return trainer


@torch.no_grad()
def difference(model: Any, completions: list[Any]) -> float:
    """The largest one, of what the engine reported from what `model` says."""
    worst = 0.0
    for d in completions:
        ids = torch.tensor([PROMPT + d.tokens.tolist()])
        logits = model(input_ids=ids).logits[0, len(PROMPT) - 1 : -1]
        own = logits.log_softmax(-1).gather(1, ids[0, len(PROMPT) :, None])[:, 0].numpy()
        worst = max(worst, float(np.abs(own - d.logprobs).max()))
    return worst


async def served(folder: Path, tokenizer: Any, learner: Trainer) -> tuple[list[Any], list[Any]]:
    """Completions of the engine before the update and after it."""
    config = GeneratorsConfig(dtype="float32", vllm=VllmConfig(max_model_len=128, max_num_seqs=8), seeded=True)
    engine = VllmEngine(config, folder, tokenizer, seed=1)
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
    tiny = prepare(TinyModel(kind="tiny"), tmp_path, 0)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    folder = family(name, tmp_path / name, vocabulary=len(tokenizer), heads=32, hidden=128)
    for file in tiny.glob("tokenizer*"):
        shutil.copy2(file, folder / file.name)
    learner = changed(folder)
    before, after = asyncio.run(asyncio.wait_for(served(folder, tokenizer, learner), 110))
    own, original = learner.model, Trainer(CONFIG, folder, seed=0).model
    for model in (own, original):
        model.set_attn_implementation("eager")
    found, worst, without = difference(original, before), difference(own, after), difference(own, before)
    print(f"{name}: {worst:.2g} nats; before the update {found:.2g}, and {without:.2g} from what is sent")
    assert sum(len(d.tokens) for d in after) > 1
    assert found < TOLERANCE, "the engine computes something else, whatever is sent"
    assert worst < TOLERANCE
    assert without > 10 * TOLERANCE, "the update changes nothing that this test could see"
