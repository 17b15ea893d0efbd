"""The tokenizer in a model folder, and how many token ids the model has for it."""

import json
from pathlib import Path
from typing import Any

from actors.config.base import Location
from actors.errors import RecipeError
from actors.storage.inputs import below, local


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of `transformers` in a folder; Python code that lies there is never run.

    Raises:
        RecipeError: where there is none that can be loaded, or one that writes ids that the model does not know.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the library underneath raises bare exceptions for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"{folder} has no tokenizer that can be loaded ({reason}); take a complete folder") from error
    if beyond := _beyond(tokenizer, vocabulary_of(folder)):
        raise RecipeError(
            f"{folder}: the tokenizer writes {', '.join(beyond[:5])}, for which the model has no embedding; add them "
            "with resize_token_embeddings, and save model and tokenizer together"
        )
    return tokenizer


def _beyond(tokenizer: Any, size: int | None) -> list[str]:
    """Tokens that every prompt may hold, and that the model does not know; others may stand there for other models."""
    used = f"{tokenizer.chat_template or ''}{tokenizer.eos_token or ''}"
    return [
        token for token, index in tokenizer.get_vocab().items() if size is not None and index >= size and token in used
    ]


def vocabulary_of(model: Location | None) -> int | None:
    """Number of the token ids of the model in a folder, as its configuration has it; None where nothing says so."""
    try:
        found = json.loads(local(below(model, "config.json")).read_text(encoding="utf-8")) if model is not None else {}
        size = found.get("vocab_size", (found.get("text_config") or {}).get("vocab_size"))
    except (OSError, ValueError, AttributeError, RecipeError):
        return None  # whoever loads the model says what is wrong with it
    return size if isinstance(size, int) else None
