"""What scores what no rule decides: the seam between a verifier, and a reward model or a judge."""

from collections.abc import Callable, Sequence
from typing import Protocol

from actors.tasks import Task

#: Name of the part in a reward's parts and in the statistics of a step.
PART = "preference"


class Scorer(Protocol):
    """Scores the answers to one task."""

    def __call__(self, task: Task, texts: Sequence[str], seconds: float) -> list[dict[str, float]]:
        """Of every text the part `PART`, and what it is made of; raises what keeps it from that within `seconds`."""
        ...

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """Return once texts can be scored, or on a stop: at once, but after a failure of what is asked elsewhere."""
        ...
