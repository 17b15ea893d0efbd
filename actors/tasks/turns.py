"""What a chat template writes: a conversation as text, and the token that ends a turn."""

from typing import Any

from actors.errors import RecipeError

Conversation = list[dict[str, str]]

_ANSWER = "4711"


def rendered(tokenizer: Any, conversation: Conversation, *, answered: bool = False) -> str:
    """A conversation as text, up to where the assistant speaks or, with `answered`, to the end of its turn.

    Raises:
        RecipeError: whatever the template raises; it is a program of its author's.
    """
    try:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=not answered))
    except Exception as error:
        roles = ", ".join(message["role"] for message in conversation)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RecipeError(
            f"the chat template of {tokenizer.name_or_path} does not take messages of the roles {roles}: {reason}"
        ) from error


def special_tokens(tokenizer: Any) -> list[str]:
    """The texts of all special tokens, which end up as one id wherever they are written out."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [*dict.fromkeys([*tokenizer.all_special_tokens, *added])]


def end_of_turn(tokenizer: Any, *, chat: bool) -> int:
    """The token that a model ends its answer with: what the chat template closes the assistant's turn with, where
    there is a template and a special token; else the tokenizer's end-of-sequence token.

    Args:
        tokenizer: of `transformers`.
        chat: whether prompts are written by the chat template.

    Raises:
        RecipeError: where there is neither.
    """
    found = _closing(tokenizer) if chat and tokenizer.chat_template else None
    end: int | None = tokenizer.eos_token_id if found is None else found
    if end is None:
        raise RecipeError(
            f"the tokenizer of {tokenizer.name_or_path} names no end-of-sequence token, so that no answer could end; "
            "set eos_token in its tokenizer_config.json"
        )
    return end


def _closing(tokenizer: Any) -> int | None:
    """The first special token behind an assistant's words; None where the template writes none at once."""
    conversation = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = rendered(tokenizer, conversation, answered=True)
    except RecipeError:
        return None
    if _ANSWER not in text:
        return None
    behind = text[text.rindex(_ANSWER) + len(_ANSWER) :].lstrip()
    special = [token for token in special_tokens(tokenizer) if token and behind.startswith(token)]
    if not special:
        return None
    return int(tokenizer.convert_tokens_to_ids(max(special, key=len)))
