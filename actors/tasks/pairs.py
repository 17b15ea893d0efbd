"""Preference pairs: two answers to one prompt, and which of them is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.errors import RecipeError
from actors.tasks.records import messages_of, read_jsonl, text_field
from actors.tasks.task import Task, problem_key, split_hash


@dataclass(frozen=True, slots=True)
class Pair:
    """`chosen` is preferred to `rejected` as an answer to the task, which carries no reference."""

    task: Task
    chosen: str
    rejected: str


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a JSONL file with `prompt` or `messages`, `chosen` and `rejected`.

    Raises RecipeError for a file without pairs, and for a bad line with its number.
    """
    pairs = []
    for place, record in read_jsonl(path, "preferences.pairs"):
        messages = messages_of(record, place)
        chosen, rejected = (text_field(record, key, place) for key in ("chosen", "rejected"))
        if chosen == rejected:
            raise RecipeError(
                f"{place}: `chosen` and `rejected` are the same text, which says nothing; remove the line"
            )
        pairs.append(Pair(Task(problem_key(messages), messages, "none", {}), chosen, rejected))
    if not pairs:
        raise RecipeError(f"{path}: holds no pair; each line needs `prompt` or `messages`, `chosen` and `rejected`")
    return pairs


def keep_back(pairs: Sequence[Pair], prompts: int) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train on, and those of `prompts` prompts: no prompt is on both sides.

    Which prompts are kept back depends on the prompts alone, not on their order or a seed. Raises RecipeError where
    none would be left to train on.
    """
    keys = sorted({pair.task.key for pair in pairs}, key=split_hash)
    if len(keys) <= prompts:
        raise RecipeError(
            f"preferences.held_out keeps back {prompts} prompts, and the pairs have {len(keys)} different ones; lower "
            "it, or give more pairs"
        )
    back = set(keys[:prompts])
    return [p for p in pairs if p.task.key not in back], [p for p in pairs if p.task.key in back]
