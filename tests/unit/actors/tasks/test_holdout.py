"""Which prompts are held out: by their hash alone, and never all of them."""

import pytest

from actors.errors import RecipeError
from actors.tasks import Pair, hold_out
from actors.tasks.task import Task, problem_key, split_hash


def pair(prompt: str, chosen: str = "a") -> Pair:
    messages = (("user", prompt),)
    return Pair(Task(problem_key(messages), messages, "none", {}), chosen, "b")


def split(pairs: list[Pair], prompts: int) -> tuple[list[Pair], list[Pair]]:
    return hold_out(pairs, lambda found: found.task, prompts, "preferences.held_out")


def test_pairs_are_held_out_by_prompt_whatever_their_order() -> None:
    pairs = [pair(f"prompt {i}", answer) for i in range(10) for answer in ("a", "c")]
    train, held_out = split(pairs, 3)
    assert len(train) == 14 and len(held_out) == 6
    assert not {p.task.key for p in train} & {p.task.key for p in held_out}
    assert {p.task.key for p in split(pairs[::-1], 3)[1]} == {p.task.key for p in held_out}
    assert max(split_hash(p.task.key) for p in held_out) < min(split_hash(p.task.key) for p in train)


def test_holding_all_prompts_out_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"preferences.held_out holds out 2 prompts, and there are 2"):
        split([pair("x"), pair("y"), pair("y", "c")], 2)


def test_none_are_held_out_unless_asked_for() -> None:
    assert split([pair("x")], 0) == ([pair("x")], [])
