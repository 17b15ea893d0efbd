"""Token ids that end a completion."""

import json
from pathlib import Path
from typing import Any

from actors.errors import RecipeError
from actors.tasks.turns import end_of_turn


def end_tokens(model: Path, tokenizer: Any) -> list[int]:
    """All tokens that may end a completion: what the chat template closes a turn with, the tokenizer's end-of-sequence
    token, and those that the model's generation_config.json names. Nothing else in that file counts in a run.

    Raises:
        RecipeError: where there is none, or where the file is none of JSON.
    """
    named = _named(model / "generation_config.json")
    ends = {*named, tokenizer.eos_token_id} - {None}
    if not ends or tokenizer.chat_template:
        ends.add(end_of_turn(tokenizer, chat=True))
    return sorted(ends)


def _named(file: Path) -> list[int]:
    if not file.exists():
        return []
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise RecipeError(f"{file} cannot be read ({error}); repair or remove it") from error
    ids = found if isinstance(found, list) else [found]
    return [end for end in ids if isinstance(end, int)]
