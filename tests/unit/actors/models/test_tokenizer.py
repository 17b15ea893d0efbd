"""Tokenizers of model folders: loaded without the folder's code, and refused where they do not fit the model."""

import json
from pathlib import Path

import pytest

from actors.errors import RecipeError
from actors.models.tokenizer import load_tokenizer, vocabulary_of
from tests.unit.actors.tasks.tokenizers import characters


def test_a_tokenizer_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    characters().save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).encode("ab") == characters().encode("ab")


def test_a_folder_without_a_whole_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RecipeError, match=f"{tmp_path} has no tokenizer that can be loaded") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)
    characters().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(RecipeError, match="no tokenizer that can be loaded"):
        load_tokenizer(tmp_path)


def test_python_code_in_the_folder_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('this was run')")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine"}))
    settings = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(RecipeError, match="no tokenizer that can be loaded"):
        load_tokenizer(tmp_path)


def test_tokens_of_the_template_without_an_embedding_are_refused(tmp_path: Path) -> None:
    tokenizer = characters()
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": len(tokenizer) - 2}))
    with pytest.raises(RecipeError, match=r"writes <\|im_end\|>, for which the model has no embedding"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": len(tokenizer) - 1}))
    assert load_tokenizer(tmp_path), "<|endoftext|> is in no prompt of this template"


def test_the_vocabulary_is_what_the_models_configuration_says(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    assert vocabulary_of(None) is None
    assert vocabulary_of(tmp_path) is None
    for text, size in (('{"vocab_size": 128}', 128), ('{"text_config": {"vocab_size": 64}}', 64), ("{}", None)):
        file.write_text(text)
        assert vocabulary_of(tmp_path) == size
