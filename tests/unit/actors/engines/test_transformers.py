"""The engine around `transformers`, without a run around it."""

import asyncio
import json
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.config.model import TinyModel
from actors.config.roles import GeneratorsConfig, SamplingConfig
from actors.engines import transformers as transformers_engine
from actors.engines.protocol import RequestRejectedError, SampledCompletion
from actors.engines.transformers import TransformersEngine
from actors.errors import EngineError
from actors.models import prepare

SAMPLING = SamplingConfig(max_tokens=4)


def test_whoever_waits_for_completions_learns_that_generation_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = prepare(TinyModel(kind="tiny", hidden_size=32, layers=1, heads=1), tmp_path, 0)
    generate = transformers_engine.generate

    def out_of_memory(*_: Any) -> Any:
        raise MemoryError("no room for 2 sequences")

    async def scenario() -> None:
        engine = TransformersEngine(GeneratorsConfig(), model, AutoTokenizer.from_pretrained(model), seed=0)
        await engine.start()
        try:
            monkeypatch.setattr(transformers_engine, "generate", out_of_memory)
            with pytest.raises(MemoryError, match="no room"):
                await asyncio.wait_for(engine.generate([8, 9], 2, SAMPLING), 30)
            monkeypatch.setattr(transformers_engine, "generate", generate)
            assert len(await asyncio.wait_for(engine.generate([8, 9], 2, SAMPLING), 30)) == 2
        finally:
            await engine.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("prompt", [[], [8, 10**6], [-1]])
def test_a_prompt_that_the_model_cannot_read_is_rejected_and_the_others_are_answered(
    tmp_path: Path, prompt: list[int]
) -> None:
    model = prepare(TinyModel(kind="tiny", hidden_size=32, layers=1, heads=1), tmp_path, 0)

    async def scenario() -> None:
        engine = TransformersEngine(GeneratorsConfig(), model, AutoTokenizer.from_pretrained(model), seed=0)
        await engine.start()
        try:
            good, bad = await asyncio.gather(
                engine.generate([8, 9], 2, SAMPLING), engine.generate(prompt, 2, SAMPLING), return_exceptions=True
            )
            assert isinstance(bad, RequestRejectedError) and bad.reason == "malformed"
            assert not isinstance(good, BaseException) and len(good) == 2
            await engine.ping()
        finally:
            await engine.close()

    asyncio.run(scenario())


def test_a_caller_that_gives_up_leaves_the_others_their_own_completions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = prepare(TinyModel(kind="tiny", hidden_size=32, layers=1, heads=1), tmp_path, 0)
    under_way = threading.Event()

    def echo(_model: Any, _tokenizer: Any, prompts: list[list[int]], *_: Any) -> list[SampledCompletion]:
        under_way.wait(30)
        return [
            SampledCompletion(np.array(p, np.int32), np.zeros(len(p), np.float32), ((0, len(p)),), False, str(p))
            for p in prompts
        ]

    async def scenario() -> None:
        monkeypatch.setattr(transformers_engine, "generate", echo)
        engine = TransformersEngine(GeneratorsConfig(), model, AutoTokenizer.from_pretrained(model), seed=0)
        await engine.start()
        try:
            gone = asyncio.create_task(engine.generate([8], 3, SAMPLING))
            stays = asyncio.create_task(engine.generate([9, 10], 2, SAMPLING))
            await asyncio.sleep(0)
            gone.cancel()
            under_way.set()
            sampled = await asyncio.wait_for(stays, 30)
            assert [d.text for d in sampled] == ["[9, 10]", "[9, 10]"]
        finally:
            await engine.close()

    asyncio.run(scenario())


def received(engine: TransformersEngine, tensors: list[tuple[str, torch.Tensor]]) -> None:
    """As if they had come over the wire."""
    engine._receiving = Future()
    engine._receiving.set_result(tensors)


def test_weights_that_are_swapped_in_halfway_are_never_sampled_from(tmp_path: Path) -> None:
    model = prepare(TinyModel(kind="tiny", hidden_size=32, layers=1, heads=1), tmp_path, 0)

    async def scenario() -> None:
        engine = TransformersEngine(GeneratorsConfig(), model, AutoTokenizer.from_pretrained(model), seed=0)
        await engine.start()
        try:
            parameters = [(name, p.detach() + 1) for name, p in engine._model.named_parameters()]
            received(engine, parameters[:1])
            with pytest.raises(EngineError, match="version 7 was not swapped in"):
                await engine.finish_update(7)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.generate([8, 9], 1, SAMPLING), 0.5)
        finally:
            await engine.close()

    asyncio.run(scenario())


def test_a_commit_that_is_given_up_while_a_batch_is_generated_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = prepare(TinyModel(kind="tiny", hidden_size=32, layers=1, heads=1), tmp_path, 0)
    under_way, goes_on = threading.Event(), threading.Event()
    generate = transformers_engine.generate

    def slow(*arguments: Any) -> Any:
        under_way.set()
        goes_on.wait(30)
        return generate(*arguments)

    async def scenario() -> None:
        monkeypatch.setattr(transformers_engine, "generate", slow)
        engine = TransformersEngine(GeneratorsConfig(), model, AutoTokenizer.from_pretrained(model), seed=0)
        await engine.start()
        try:
            before = [p.detach().clone() for p in engine._model.parameters()]
            generating = asyncio.create_task(engine.generate([8], 1, SAMPLING))
            assert await asyncio.to_thread(under_way.wait, 30)
            received(engine, [(name, p.detach() + 1) for name, p in engine._model.named_parameters()])
            commit = asyncio.create_task(engine.finish_update(7))
            await asyncio.sleep(0)
            commit.cancel()
            await asyncio.gather(commit, return_exceptions=True)
            await engine.abort_update()
            goes_on.set()
            assert (await asyncio.wait_for(generating, 30))[0].spans[0][0] == 0
            assert all(torch.equal(old, p) for old, p in zip(before, engine._model.parameters(), strict=True))
            received(engine, [(name, p.detach() + 1) for name, p in engine._model.named_parameters()])
            await asyncio.wait_for(engine.finish_update(8), 30)
            assert engine.version == 8
        finally:
            await engine.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.01, "top_p": 0.1, "top_k": 1, "min_p": 0.9, "do_sample": True},
        {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(3, 120)), "bad_words_ids": [[3], [4]], "sequence_bias": [[[5], 90.0]]},
        {"max_length": 2, "max_new_tokens": 1, "min_new_tokens": 12, "max_time": 1e-9},
        {"forced_eos_token_id": 2, "forced_bos_token_id": 9, "num_beams": 3},
    ],
)
def test_a_model_folder_decides_nothing_about_sampling(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = prepare(TinyModel(kind="tiny", hidden_size=32, layers=1, heads=1), tmp_path, 0)
    tokenizer, file = AutoTokenizer.from_pretrained(folder), folder / "generation_config.json"

    def sampled() -> list[SampledCompletion]:
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        torch.manual_seed(0)
        prompts, sampling = [[8, 9], [10]], SamplingConfig(max_tokens=12)
        return transformers_engine.generate(model, tokenizer, prompts, sampling, [tokenizer.eos_token_id], 0)

    before = sampled()
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    for one, other in zip(before, sampled(), strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        np.testing.assert_array_equal(one.logprobs, other.logprobs)
