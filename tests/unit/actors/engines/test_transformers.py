"""The engine around `transformers`, without a run around it."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.config.model import TinyModel
from actors.config.roles import GeneratorsConfig, SamplingConfig
from actors.engines import transformers as transformers_engine
from actors.engines.protocol import SampledCompletion
from actors.engines.transformers import TransformersEngine
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
