"""Real vLLM engines: the weights they hold, and the version of each token they sample."""

import asyncio
import copy
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from actors.config.model import TinyModel
from actors.config.roles import GeneratorsConfig, VllmConfig
from actors.engines.protocol import Job, RequestRejectedError, SampledCompletion
from actors.engines.vllm import VllmEngine
from actors.events import WeightSync
from actors.models import prepare
from actors.replay.progress import NOTHING, End, Partial
from actors.weights.publisher import Publisher
from benchmarks.digest import digest
from learner import LearnerConfig, Trainer
from learner.config import LoraSettings
from learner.model.adapters import merged_tensors
from learner.model.base_weights import BaseWeights
from learner.model.merging import Merging
from tests.e2e.updates import (
    PROMPT,
    SAMPLING,
    generated_across,
    logprobs_of,
    move,
    policies,
    published,
    publisher_for,
    subscribed,
)

pytestmark = pytest.mark.e2e


def engine(model: Path, tokenizer: Any) -> VllmEngine:
    v = VllmConfig(max_model_len=128, max_num_seqs=64, engine_args={"worker_extension_cls": "benchmarks.digest.Digest"})
    return VllmEngine(GeneratorsConfig(dtype="float32", vllm=v, seeded=True), model, tokenizer, seed=1)


def slightly_other(policy: Any) -> Any:
    """One weight of each parameter differs."""
    made = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.view(-1)[parameter.numel() // 2] += 0.5
    return made


def exported(model: Path, folder: Path) -> Path:
    """What a learner writes after training that changed every parameter."""
    learner = Trainer(LearnerConfig(dtype="float32", device="cpu"), model, seed=0)
    move(learner.model.parameters())
    learner.export(folder)
    return folder


def adapted(model: Path) -> Trainer:
    """A learner whose adapters have been somewhere; of the layers that vLLM fuses, only some have one."""
    lora = LoraSettings(rank=4, broadcast="adapters", targets=["q_proj", "o_proj", "up_proj"])
    trainer = Trainer(LearnerConfig(dtype="float32", device="cpu", lora=lora), model, seed=0)
    move(factor for _, factor in trainer.named_tensors())
    return trainer


async def generate_across(publisher: Publisher, generating: VllmEngine, policy: Any) -> list[SampledCompletion]:
    """Completions that are under way while version 1 arrives."""
    jobs: list[Job] = []

    async def generate() -> list[SampledCompletion]:
        jobs.append(Job(4, seed=len(jobs)))
        return await generating.generate(PROMPT, 4, SAMPLING, jobs[-1])

    def begun() -> bool:
        return any(max(job.lengths()) > 2 for job in jobs)

    return await generated_across(published(publisher, 1, policy), generate, begun)


async def continued(first: VllmEngine, second: VllmEngine) -> dict[str, Any]:
    """One group again and again: whole, among others, and begun by one engine and ended by another."""
    whole = await first.generate(PROMPT, 3, SAMPLING, Job(3, seed=7))
    others = [first.generate(PROMPT[:n], 4, SAMPLING, Job(4, seed=100 * n)) for n in range(1, 5)]
    among, *_ = await asyncio.gather(first.generate(PROMPT, 3, SAMPLING, Job(3, seed=7)), *others)
    longest = max(range(3), key=lambda i: len(whole[i].tokens))
    job = Job(3, seed=7)
    going = asyncio.create_task(first.generate(PROMPT, 3, SAMPLING, job))
    async with asyncio.timeout(60):
        while job.lengths()[longest] < 5:
            await asyncio.sleep(0.001)
    part, lengths = job.so_far()[longest], job.lengths()
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    # Its first tokens alone: the engine may have come to its end meanwhile.
    as_of_version_0 = Partial(part.tokens[:5], part.logprobs[:5], ((0, 5),), End.RUNNING)
    ended = Partial(whole[0].tokens, whole[0].logprobs, whole[0].spans, End.STOPPED)
    rest = await second.generate(PROMPT, 3, SAMPLING, Job(3, 7, [as_of_version_0, ended, NOTHING]))
    seen = {"whole": whole, "among": among, "part": part, "of": whole[longest], "lengths": lengths}
    return seen | {"begun": as_of_version_0, "rest": rest}


async def digests(engines: list[VllmEngine]) -> list[Any]:
    return [await e._engine.collective_rpc("parameter_digests") for e in engines]


async def rejection(generating: VllmEngine, prompt: list[int]) -> str:
    with pytest.raises(RequestRejectedError) as raised:
        await generating.generate(prompt, 2, SAMPLING)
    return raised.value.reason


async def send_adapters(model: Path, engines: list[VllmEngine], learner: Trainer) -> list[WeightSync]:
    """Version 3, from a learner that sends nothing else."""
    syncs: list[WeightSync] = []
    assert learner.config.lora is not None
    merging = Merging(learner.config.lora.scale, "float32", BaseWeights(model).fingerprint)
    publisher = publisher_for(2**14, syncs.append, merging)
    async with subscribed(publisher, engines):
        publisher.publish(3, learner.snapshot())
        assert await asyncio.to_thread(publisher.wait, 3, 60)
    return syncs


async def scenario(model: Path) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    engines = [engine(model, tokenizer) for _ in range(2)]
    versions = policies(model, 2)
    versions.append(slightly_other(versions[1]))
    learner = adapted(model)
    seen: dict[str, Any] = {"policies": versions, "learner": learner, "digests": []}
    for e in engines:
        await e.start()
    seen["loaded_digests"] = await digests(engines)
    seen["rejections"] = [await rejection(engines[0], prompt) for prompt in ([8] * 128, [10**6], [-1], [])]
    await asyncio.wait_for(engines[0].ping(), 60)
    syncs: list[WeightSync] = []
    publisher = publisher_for(2**18, syncs.append)
    try:
        async with subscribed(publisher, engines):
            await published(publisher, 0, versions[0])
            seen["digests"].append(await digests(engines))
            seen["completions"] = await generate_across(publisher, engines[0], versions[1])
            seen["digests"].append(await digests(engines))
            await published(publisher, 2, versions[2])
            seen["digests"].append(await digests(engines))
            seen["continued"] = await asyncio.wait_for(continued(*engines), 120)
        seen["adapter_syncs"] = await send_adapters(model, engines, learner)
        seen["adapter_digests"] = await digests(engines)
    finally:
        held = [weakref.ref(e._engine) for e in engines]
        for e in engines:
            await e.close()
    seen["syncs"] = syncs
    gc.collect()
    seen["left"] = [one() for one in held]
    assert len(engines) == 2, "who holds on to these does not hold on to vLLM's"
    return seen


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("models")
    model = exported(prepare(TinyModel(kind="tiny"), folder, 0), folder / "exported")
    return {"model": model, **asyncio.run(scenario(model))}


def test_a_prompt_that_an_engine_cannot_answer_is_rejected_and_the_engine_goes_on(seen: dict[str, Any]) -> None:
    assert seen["rejections"] == ["overlong", "malformed", "malformed", "malformed"]
    assert seen["completions"]


def test_of_an_engine_that_was_closed_nothing_is_left_for_the_end_of_the_interpreter(seen: dict[str, Any]) -> None:
    assert seen["left"] == [None, None]


def test_an_engine_loads_what_a_learner_has_exported(seen: dict[str, Any]) -> None:
    expected = {name: digest(tensor) for name, tensor in load_file(seen["model"] / "model.safetensors").items()}
    assert all(found == expected for workers in seen["loaded_digests"] for found in workers)


def test_after_every_update_every_engine_holds_the_learners_parameters(seen: dict[str, Any]) -> None:
    for policy, engines in zip(seen["policies"], seen["digests"], strict=True):
        expected = {name: digest(parameter) for name, parameter in policy.named_parameters()}
        for workers in engines:
            for found in workers:
                assert found == expected


def test_an_update_that_changes_little_sends_little(seen: dict[str, Any]) -> None:
    whole, changed, little = (sync.bytes for sync in seen["syncs"] if sync.members == 2)
    assert whole <= changed < 1.01 * whole
    assert little < whole / 50


def test_engines_that_merge_adapters_hold_what_the_learner_would_have_merged(seen: dict[str, Any]) -> None:
    learner = seen["learner"]
    expected = {name: digest(tensor) for name, tensor in merged_tensors(learner.model)}
    assert all(found == expected for workers in seen["adapter_digests"] for found in workers)
    adapters = sum(tensor.nbytes for _, tensor in learner.named_tensors())
    assert {sync.bytes for sync in seen["adapter_syncs"]} == {adapters}


def test_a_completion_spans_two_versions(seen: dict[str, Any]) -> None:
    assert any([version for version, _ in d.spans] == [0, 1] for d in seen["completions"])
    assert all(sum(tokens for _, tokens in d.spans) == len(d.tokens) for d in seen["completions"])


def test_the_boundary_is_at_the_right_token(seen: dict[str, Any]) -> None:
    """Each version's logprobs, over the cache that the versions before it left, are those that the engine reported;
    a boundary that is off by one is visibly wrong."""
    spanning = [d for d in seen["completions"] if len(d.spans) == 2 and min(n for _, n in d.spans) > 2][:6]
    assert spanning
    for d in spanning:
        boundary = d.spans[0][1]
        error = {
            shift: np.abs(expected(seen["policies"], d, boundary + shift) - d.logprobs).max() for shift in (-1, 0, 1)
        }
        assert error[0] < 1e-3
        assert min(error[-1], error[1]) > 10 * error[0]


@torch.no_grad()
def expected(policies: list[Any], d: SampledCompletion, boundary: int) -> np.ndarray:
    """Logprobs of the completion where its tokens from `boundary` on are sampled by version 1."""
    ids = torch.tensor([PROMPT + d.tokens.tolist()])
    # token t is sampled from the logits at the position before it
    split = len(PROMPT) + boundary - 1
    first = policies[0](ids[:, :split], use_cache=True)
    second = policies[1](ids[:, split:-1], past_key_values=first.past_key_values)
    logits = torch.cat([first.logits[:, len(PROMPT) - 1 :], second.logits], 1)
    return logits.log_softmax(-1)[0].gather(1, ids[0, len(PROMPT) :, None])[:, 0].numpy()


def test_a_seed_decides_a_completion_whatever_else_the_engine_does(seen: dict[str, Any]) -> None:
    for one, other in zip(seen["continued"]["whole"], seen["continued"]["among"], strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        np.testing.assert_array_equal(one.logprobs, other.logprobs)
    assert len({d.tokens.tobytes() for d in seen["continued"]["whole"]}) == 3


def test_what_there_is_of_a_completion_is_its_beginning(seen: dict[str, Any]) -> None:
    part, whole = seen["continued"]["part"], seen["continued"]["of"]
    assert 5 <= len(part) <= min(len(whole.tokens), max(seen["continued"]["lengths"]))
    assert part.tokens.tolist() == whole.tokens[: len(part)].tolist()
    np.testing.assert_array_equal(part.logprobs, whole.logprobs[: len(part)])
    assert part.spans == ((2, len(part)),)


def test_another_engine_continues_a_completion_and_keeps_what_there_is(seen: dict[str, Any]) -> None:
    part, whole = seen["continued"]["begun"], seen["continued"]["whole"]
    rest, ended, anew = seen["continued"]["rest"]
    assert rest.tokens[: len(part)].tolist() == part.tokens.tolist()
    np.testing.assert_array_equal(rest.logprobs[: len(part)], part.logprobs)
    assert rest.spans == ((0, len(part)), (2, len(rest.tokens) - len(part)))
    assert len(part) < len(rest.tokens) <= SAMPLING.max_tokens
    assert rest.truncated == (len(rest.tokens) == SAMPLING.max_tokens)
    expected = logprobs_of(seen["policies"][2], rest.tokens)
    assert np.abs(expected - rest.logprobs).max() < 1e-3, "it went on from something else than prompt and prefix"
    assert ended.tokens.tolist() == whole[0].tokens.tolist(), "one that had ended was generated again"
    assert anew.tokens.tolist() == whole[2].tokens.tolist(), "one that begins anew follows from its seed"


def test_measured_times_are_reported(seen: dict[str, Any]) -> None:
    whole = [s for s in seen["syncs"] if s.members == 2]
    assert whole
    for sync in whole:
        assert 0 < sync.pause_seconds < sync.total_seconds
        assert 0 < sync.transfer_seconds < sync.total_seconds
    assert whole[0].bytes == sum(p.numel() * 4 for p in seen["policies"][0].parameters())
