"""The tokenizer in a model folder, and how many token ids the model has for it."""

import json
from pathlib import Path
from typing import Any

from actors.config.base import Location
from actors.errors import RecipeError
from actors.storage.inputs import below, local

#: A text that tokenizers with the same tokens and other rules of joining them write in different ones.
_PROBE = "The sum of 123 and 4567 is 4690.\n\tThus f(x) = x**2; déjà vu, 加得进等, don't, well-known unbelievably."


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


def require_same(student: Any, teacher: Any, folder: Location) -> None:
    """Refuse a teacher in `folder` that would take the student's token ids for other tokens.

    It may know more tokens, which the student never samples; a text is written in the same ones.

    Raises:
        RecipeError: it does not know a token of the student's under its id, or writes text otherwise.
    """
    own, others = student.get_vocab(), teacher.get_vocab()
    differing = sorted((index, token) for token, index in own.items() if others.get(token) != index)
    if differing:
        what = f"of the student's {len(own)} tokens {len(differing)} are others there, such as {differing[0][1]!r}"
    elif (
        student(_PROBE, add_special_tokens=False)["input_ids"] != teacher(_PROBE, add_special_tokens=False)["input_ids"]
    ):
        what = "it writes a text in other tokens than the student's"
    else:
        return
    raise RecipeError(
        f"distillation.teacher: {folder} has another tokenizer than the student ({what}), and is asked about single "
        "tokens; take a teacher with the same tokenizer, or learn from its samples (a stage of kind distill)"
    )


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
