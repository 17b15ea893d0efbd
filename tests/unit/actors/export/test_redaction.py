"""Nothing of this machine, and no secret, is in what is shown of a recipe."""

from pathlib import Path
from typing import Any

import pytest

from actors.config.loading import load
from actors.export.redaction import KEPT, LEFT_OUT, redacted, without_place

RECIPES = sorted(
    path for path in (Path(__file__).parents[4] / "recipes").glob("*.yaml") if "\nstages:" not in path.read_text()
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/data/pairs.jsonl", "…/pairs.jsonl"),
        ("~/models/mine", "…/mine"),
        ("file:///home/me/x.jsonl", "…/x.jsonl"),
        ("s3://key:secret@bucket/tasks.jsonl?X-Amz-Signature=abc", "s3://bucket/tasks.jsonl"),
        ("https://me:pass@host:8000/v1", "https://host:8000/v1"),
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        ("/", "/"),
        ("Answer in one\n/word.", "Answer in one\n/word."),
    ],
)
def test_a_place_is_shown_by_its_last_part(text: str, shown: str) -> None:
    assert without_place(text) == shown


def test_secrets_are_left_out_and_numbers_of_tokens_stay() -> None:
    tree: dict[str, Any] = {
        "generators": {
            "sampling": {"max_tokens": 64},
            "vllm": {"engine_args": {"hf_token": "hf_abc", "api_key": "k", "nested": [{"password": "p"}]}},
        },
        "trackers": {"wandb": {"token": "x"}},
        "network": {"bind": "10.0.0.1"},
    }
    shown = redacted(tree)
    assert shown["generators"]["sampling"]["max_tokens"] == 64
    arguments = shown["generators"]["vllm"]["engine_args"]
    assert arguments == {"hf_token": LEFT_OUT, "api_key": LEFT_OUT, "nested": [{"password": LEFT_OUT}]}
    assert shown.keys() <= set(KEPT)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_no_recipe_shows_where_it_was_run(path: Path) -> None:
    tree = load(path).model_dump(mode="json")
    assert str(Path.cwd()) in str(tree)
    assert str(Path.cwd()) not in str(redacted(tree))
