"""Preference pairs: two answers to one prompt, and which of them is better."""

from dataclasses import dataclass

from actors.config.base import Location
from actors.errors import RecipeError
from actors.tasks.records import messages_of, read_records, text_field
from actors.tasks.task import Task, problem_key


@dataclass(frozen=True, slots=True)
class Pair:
    """`chosen` is preferred to `rejected` as an answer to the task, which carries no reference."""

    task: Task
    chosen: str
    rejected: str


def read_pairs(path: Location, single: bool = False) -> list[Pair]:
    """The pairs of a JSONL file with `prompt` or `messages`, `chosen` and `rejected`; `single` where the template takes
    one message a prompt.

    Raises:
        RecipeError: for a file without pairs, and for a bad line with its number.
    """
    pairs = []
    for place, record in read_records(path, "preferences.pairs"):
        messages = messages_of(record, place, single)
        chosen, rejected = (text_field(record, key, place) for key in ("chosen", "rejected"))
        if chosen == rejected:
            raise RecipeError(
                f"{place}: `chosen` and `rejected` are the same text, which says nothing; remove the line"
            )
        pairs.append(Pair(Task(problem_key(messages), messages, "none", {}), chosen, rejected))
    if not pairs:
        raise RecipeError(f"{path}: holds no pair; each line needs `prompt` or `messages`, `chosen` and `rejected`")
    return pairs
