"""The one rule by which prompts are held out: those of the lowest `split_hash`."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from actors.errors import RecipeError
from actors.tasks.task import Task, split_hash

T = TypeVar("T")


def hold_out(items: Sequence[T], task_of: Callable[[T], Task], prompts: int, key: str) -> tuple[list[T], list[T]]:
    """The items to train on, and those of `prompts` prompts: no prompt is on both sides.

    Which prompts are held out depends on the prompts alone, not on their order or a seed.

    Args:
        items: whatever belongs to a prompt, several items to one prompt included.
        task_of: the task of an item.
        prompts: number of different prompts to hold out.
        key: the recipe's key that asks for them, for the error.

    Raises:
        RecipeError: if no prompt would be left to train on.
    """
    keys = sorted({task_of(item).key for item in items}, key=split_hash)
    if len(keys) <= prompts:
        raise RecipeError(
            f"{key} holds out {prompts} prompts, and there are {len(keys)} different ones; lower it, or give more"
        )
    held_out = set(keys[:prompts])
    return (
        [item for item in items if task_of(item).key not in held_out],
        [item for item in items if task_of(item).key in held_out],
    )
