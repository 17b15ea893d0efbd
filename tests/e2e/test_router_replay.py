"""A real vLLM says which experts tokens went to, and a learner that replays it agrees with it more closely."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from actors.config.roles import GeneratorsConfig, SamplingConfig, VllmConfig
from actors.engines.protocol import Job, SampledCompletion
from actors.engines.vllm import VllmEngine
from actors.replay.progress import NOTHING, End, Partial, decode_progress, encode_progress
from actors.roles.groups import payload_of
from benchmarks.logprobs import as_trained, measure
from benchmarks.models import mixture
from learner import LearnerConfig, Trainer
from tests.e2e.updates import SAMPLING, generated_across, publisher_for, subscribed

pytestmark = pytest.mark.e2e

PROMPTS = [[int(token) for token in np.random.default_rng(i).integers(12, 60, 40)] for i in range(4)]
LAYERS, TOP_K, EXPERTS = 4, 4, 32


async def continued(engine: VllmEngine, ended: SampledCompletion) -> list[SampledCompletion]:
    """A group of which one completion is under way when it changes hands, one has not begun, and one has ended."""
    first = Job(2, seed=7)
    going = asyncio.create_task(engine.generate(PROMPTS[0], 2, SAMPLING, first))
    async with asyncio.timeout(60):
        while max(first.lengths()) < 40:
            await asyncio.sleep(0.001)
    begun = max(first.so_far(), key=len)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    under_way = Partial(begun.tokens[:40], begun.logprobs[:40], ((0, 40),), End.RUNNING)
    over = Partial(ended.tokens, ended.logprobs, ended.spans, End.STOPPED, ended.routed_experts)
    handed_on, _ = decode_progress(encode_progress([under_way, NOTHING, over], [0, 0, 0]), 3)
    return await engine.generate(PROMPTS[0], 3, SAMPLING, Job(3, 8, handed_on))


async def across(engine: VllmEngine, learner: Trainer) -> list[SampledCompletion]:
    """A group that is under way while version 1 arrives, whose weights are those of version 0."""
    publisher, jobs = publisher_for(2**18, lambda _: None), list[Job]()

    async def generate() -> list[SampledCompletion]:
        jobs.append(Job(1))
        return await engine.generate(PROMPTS[1], 1, SAMPLING, jobs[-1])

    async def update() -> None:
        publisher.publish(1, learner.snapshot())
        assert await asyncio.to_thread(publisher.wait, 1, 60)

    async with subscribed(publisher, [engine]):
        return await generated_across(update(), generate, lambda: any(max(job.lengths()) >= 10 for job in jobs))


async def scenario(folder: Path) -> dict[str, Any]:
    vllm = VllmConfig(max_model_len=256, max_num_seqs=64, prefix_cache="per_version")
    config = GeneratorsConfig(dtype="bfloat16", vllm=vllm)
    engine = VllmEngine(config, folder, AutoTokenizer.from_pretrained(folder), seed=0, routed_experts=True)
    await engine.start()
    try:
        sampling = SamplingConfig(max_tokens=48)
        sampled = await asyncio.gather(*(engine.generate(prompt, 8, sampling) for prompt in PROMPTS))
        rest = await asyncio.wait_for(continued(engine, sampled[0][0]), 120)
        learner = Trainer(LearnerConfig(dtype="float32", device="cpu", threads=1), folder, seed=0)
        spanning = await asyncio.wait_for(across(engine, learner), 120)
    finally:
        await engine.close()
    return {"folder": folder, "sampled": sampled, "continued": rest, "across": spanning}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return asyncio.run(scenario(mixture(tmp_path_factory.mktemp("mixture"))))


def require_routes(prompt: Sequence[int], completion: SampledCompletion) -> None:
    """Every token that the engine read went to different experts of each layer."""
    routed = completion.routed_experts
    assert routed is not None and routed.dtype == np.uint8
    assert routed.shape == (len(prompt) + len(completion.tokens) - 1, LAYERS * TOP_K)
    assert routed.max() < EXPERTS
    assert (np.diff(np.sort(routed.reshape(-1, LAYERS, TOP_K), axis=-1), axis=-1) > 0).all()


def test_every_completion_says_where_its_tokens_went(seen: dict[str, Any]) -> None:
    for prompt, group in zip(PROMPTS, seen["sampled"], strict=True):
        for completion in group:
            require_routes(prompt, completion)


def require_closer(seen: dict[str, Any], groups: Sequence[tuple[list[int], list[SampledCompletion]]]) -> None:
    """A learner that replays the routing has log-probabilities closer to the engine's than one that does not.

    Most of all where rounding sent tokens elsewhere, which is a few in a hundred.
    """
    batch = [as_trained(prompt, completions) for prompt, completions in groups]
    apart, replayed = (measure(batch, seen["folder"], "bfloat16", replay) for replay in (False, True))
    print(f"without {apart}, with {replayed}")
    assert apart["tokens"] == replayed["tokens"] == sum(len(c.tokens) for _, completions in groups for c in completions)
    assert replayed["mean"] < apart["mean"]
    assert replayed["p99"] < apart["p99"] / 2


def test_a_learner_that_replays_the_routing_is_closer_to_the_engine(seen: dict[str, Any]) -> None:
    require_closer(seen, list(zip(PROMPTS, seen["sampled"], strict=True)))


def test_a_completion_that_another_job_continues_says_it_of_all_its_tokens(seen: dict[str, Any]) -> None:
    """The tokens that there were before are read again, and go where they went or near it."""
    for completion in seen["continued"]:
        require_routes(PROMPTS[0], completion)
    under_way, _, over = seen["continued"]
    assert len(under_way.tokens) > 40
    before = seen["sampled"][0][0]
    assert over.tokens.tolist() == before.tokens.tolist(), "nothing is sampled after its end"
    assert np.array_equal(over.routed_experts, before.routed_experts), "they came with it"
    assert payload_of(PROMPTS[0], seen["continued"], replayed=True).routed_experts is not None
    require_closer(seen, [(PROMPTS[0], seen["continued"])])


def test_a_completion_that_spans_an_update_says_it_of_all_its_tokens(seen: dict[str, Any]) -> None:
    assert any([version for version, _ in d.spans] == [0, 1] for d in seen["across"])
    for completion in seen["across"]:
        require_routes(PROMPTS[1], completion)
    require_closer(seen, [(PROMPTS[1], [replace(d, spans=((0, len(d.tokens)),)) for d in seen["across"]])])
