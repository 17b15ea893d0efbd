"""Preference pairs: what is read from a file, and which of them are kept back."""

import json
from pathlib import Path

import pytest

from actors.errors import RecipeError
from actors.tasks import Pair, keep_back, read_pairs
from actors.tasks.task import Task, problem_key

GOOD = {"prompt": "1+1=", "chosen": "2", "rejected": "three"}


def written(folder: Path, *lines: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def pair(prompt: str, chosen: str = "a") -> Pair:
    messages = (("user", prompt),)
    return Pair(Task(problem_key(messages), messages, "none", {}), chosen, "b")


def test_pairs_are_read_with_a_prompt_or_a_conversation(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    first, second = read_pairs(written(tmp_path, GOOD, "", {"messages": talk, "chosen": "Hi", "rejected": "Hello you"}))
    assert (first.task.messages, first.chosen, first.rejected) == ((("user", "1+1="),), "2", "three")
    assert second.task.messages == (("system", "Be brief."), ("user", "Hello"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", r"line 2: not JSON"),
        ("[1]", r"line 2: a list"),
        ({"prompt": "x", "chosen": "a"}, r"line 2: the key `rejected` is missing"),
        ({"chosen": "a", "rejected": "b"}, r"line 2: give either `prompt` or `messages`"),
        ({**GOOD, "chosen": ""}, r"line 2: `chosen` must be a text that is not empty"),
        ({**GOOD, "rejected": "2"}, r"line 2: `chosen` and `rejected` are the same"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: object, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        read_pairs(written(tmp_path, GOOD, line))


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no pair"):
        read_pairs(written(tmp_path, ""))
    with pytest.raises(RecipeError, match="cannot be read"):
        read_pairs(tmp_path / "missing.jsonl")


def test_pairs_are_kept_back_by_prompt_whatever_their_order() -> None:
    pairs = [pair(f"prompt {i}", answer) for i in range(10) for answer in ("a", "c")]
    train, back = keep_back(pairs, 3)
    assert len(train) == 14 and len(back) == 6
    assert not {p.task.key for p in train} & {p.task.key for p in back}
    assert {p.task.key for p in keep_back(pairs[::-1], 3)[1]} == {p.task.key for p in back}


def test_keeping_all_prompts_back_is_refused() -> None:
    with pytest.raises(RecipeError, match="keeps back 2 prompts, and the pairs have 2"):
        keep_back([pair("x"), pair("y"), pair("y", "c")], 2)
