"""Where the replay's tasks are from."""

from collections.abc import Mapping
from typing import Any, Protocol


class TaskSource(Protocol):
    """The tasks behind the task numbers, as MessagePack-able dictionaries: `key`, `messages`, `verifier`,
    `reference` for the verifier (as JSON, whose integers have any size), and `source`, the label of where the task is
    from, one of a few dozen in a run.

    Both raise RecipeError for a task that its source cannot make.
    """

    held_out: int

    def train(self, index: int) -> Mapping[str, Any]: ...

    def evaluate(self, index: int) -> Mapping[str, Any]: ...
