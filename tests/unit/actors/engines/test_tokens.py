"""A completion may end in any token that its model knows as an end."""

import json
from pathlib import Path

import pytest

from actors.engines.tokens import end_tokens
from actors.errors import RecipeError
from tests.unit.actors.tasks.tokenizers import CHATML, WITHOUT_END, characters


def test_the_turns_end_the_tokenizers_and_the_folders_count(tmp_path: Path) -> None:
    tokenizer = characters(CHATML)
    id_of = tokenizer.convert_tokens_to_ids
    assert end_tokens(tmp_path, tokenizer) == sorted(map(id_of, ["<|im_end|>", "</s>"]))
    named = {"eos_token_id": [id_of("<|endoftext|>"), id_of("</s>")], "temperature": 0.1}
    (tmp_path / "generation_config.json").write_text(json.dumps(named))
    assert end_tokens(tmp_path, tokenizer) == sorted(map(id_of, ["<|im_end|>", "</s>", "<|endoftext|>"]))


def test_no_end_at_all_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names no end-of-sequence token"):
        end_tokens(tmp_path, characters(WITHOUT_END, end=None))
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(RecipeError, match=r"generation_config.json cannot be read .*; repair or remove it"):
        end_tokens(tmp_path, characters())
