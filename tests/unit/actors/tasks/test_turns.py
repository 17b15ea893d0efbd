"""The token that ends an answer: what the chat template writes, as long as it writes one."""

from typing import Any

import pytest

from actors.errors import RecipeError
from actors.tasks.turns import end_of_turn
from tests.unit.actors.tasks.tokenizers import ALTERNATING, CHATML, NO_SYSTEM, OPENS_THOUGHT, WITHOUT_END, characters


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|im_end|>"),
        (OPENS_THOUGHT, "<|im_end|>"),
        (NO_SYSTEM, "<|im_end|>"),
        (ALTERNATING.replace("]", " "), "</s>"),
        (CHATML.replace("<|im_end|>", " <|im_end|>\n<|endoftext|>"), "<|im_end|>"),
        (WITHOUT_END, "</s>"),
        ("{{ raise_exception('never') }}", "</s>"),
        (None, "</s>"),
    ],
)
def test_the_template_decides_and_else_the_tokenizer(template: str | None, end: str) -> None:
    tokenizer = characters(template)
    assert tokenizer.decode([end_of_turn(tokenizer, chat=True)]) == end
    assert tokenizer.decode([end_of_turn(tokenizer, chat=False)]) == "</s>"


def test_without_any_end_there_is_no_answer() -> None:
    tokenizer: Any = characters(WITHOUT_END, end=None)
    with pytest.raises(RecipeError, match="names no end-of-sequence token"):
        end_of_turn(tokenizer, chat=True)
    assert end_of_turn(characters(end=None), chat=True)
