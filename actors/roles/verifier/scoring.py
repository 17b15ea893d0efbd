"""The seam between a verifier, and what scores what no rule decides; and which part of a completion that looks at."""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from actors.tasks import Task

#: Name of the part in a reward's parts and in the statistics of a step.
PART = "preference"
_TAG = re.compile(r"</?(?:think|answer)>")


class AnswerScorer(Protocol):
    """Scores the answers to one task."""

    def __call__(self, task: Task, texts: Sequence[str], seconds: float) -> list[dict[str, float]]:
        """Of every text the part `PART`, and what it is made of; raises what keeps it from that within `seconds`."""
        ...

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """Return once texts can be scored, or on a stop: at once, but after a failure of what is asked elsewhere."""
        ...

    def close(self) -> None:
        """Nothing is scored any more."""
        ...


def answer_in(response: str, thinks_first: bool) -> str:
    """What follows the thoughts of a response; empty where they never end.

    Args:
        response: the whole.
        thinks_first: the prompt begins the thoughts or asks for them: where no end of them is marked, all of it is.
    """
    thoughts, end, answer = response.partition("</think>")
    if not end:
        answer = "" if thinks_first or thoughts.lstrip().startswith("<think>") else thoughts
    return _TAG.sub("", answer).strip()
