"""The tiny model: reproducible, small, and what transformers loads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.config.model import TinyModel
from actors.models import prepare
from actors.tasks.task import Task
from actors.tasks.traces import addition_trace

SMALL = TinyModel(kind="tiny", hidden_size=64, heads=2, intermediate_size=64, layers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(TinyModel(kind="tiny"), tmp_path_factory.mktemp("models"), 0)


def test_the_default_tiny_model_has_the_documented_size(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == 934_848
    assert model.dtype == torch.float32
    assert model.config.head_dim == 32
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == model.config.vocab_size == 128
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


def test_traces_survive_the_tokenizer_and_tags_are_single_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trace = addition_trace(Task("k", (("user", "374+859="),), "exact", {}))
    assert trace == "<think>4+9=13,7+5+1=13,3+8+1=12</think><answer>1233</answer>"
    ids = tokenizer.encode(trace)
    assert len(ids) == 32
    assert [tokenizer.decode([ids[0]]), tokenizer.decode([ids[-1]])] == ["<think>", "</answer>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == trace


def test_any_text_has_ids_and_any_id_has_a_text(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = 'The quick "brown" fox\n jumps: {1} <x> \\boxed{2}! 50% of $3 & #4; a_b~c|d`e\'f@g^h*[i]'
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.unk_token_id in tokenizer.encode("5 €")
    assert all(tokenizer.decode([token]) for token in range(len(tokenizer)))


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    def weights(place: str, seed: int) -> dict[str, torch.Tensor]:
        return load_file(prepare(SMALL, tmp_path / place, seed) / "model.safetensors")

    before = torch.get_rng_state()
    first, again, other = weights("a", 1), weights("b", 1), weights("a", 2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("fields", [{"hidden_size": 100, "heads": 3}, {"hidden_size": 192, "heads": 4}])
def test_heads_that_the_engine_cannot_run_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"hidden_size / heads is .* must be one of 32, 64"):
        TinyModel.model_validate({"kind": "tiny", **fields})
