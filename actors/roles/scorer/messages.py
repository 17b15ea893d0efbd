"""What a verifier asks a scorer, and what it is answered; see `actors.transport.codec`.

score   answered by {"outcome", "detail"}; where the outcome is scored, with the array `scores`, float32 [texts]

Outcomes: scored; late, nobody waits any more; failed, another scorer may do better; refused, none would.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from actors.config.base import Section
from actors.membership import NAME
from actors.tasks import Task
from actors.transport.codec import Array

#: Longest explanation that travels with an answer (characters).
MAX_DETAIL = 500
#: Longest that a scorer may be given for an answer (s).
MAX_WAIT_SECONDS = 3600.0

Outcome = Literal["scored", "late", "failed", "refused"]


class ScoreTexts(Section):
    """The sender waits `wait_seconds` for the scores of some answers to one prompt, and no longer."""

    worker: str = Field(pattern=NAME, max_length=200, description="unique name of the sender")
    role: Literal["verifier"] = Field(description="what the sender is")
    wait_seconds: float = Field(gt=0, le=MAX_WAIT_SECONDS, description="when nobody waits any more (s)")
    messages: list[tuple[str, str]] = Field(min_length=1, description="role and content of each")
    texts: list[str] = Field(min_length=1, max_length=4096, description="the answers")

    @property
    def task(self) -> Task:
        """What is answered."""
        return Task("", tuple(self.messages), "", {})


REQUESTS = {"score": ScoreTexts}


def answer(outcome: Outcome, detail: str = "") -> dict[str, Any]:
    """The body of an answer."""
    return {"outcome": outcome, "detail": detail[:MAX_DETAIL]}


def scores_in(arrays: Mapping[str, Array], texts: int) -> list[float]:
    """The scores that came with an answer. Raises ValueError where they are not one for each of the texts."""
    scores = arrays.get("scores")
    if scores is None or scores.shape != (texts,):
        raise ValueError(f"a scorer gave other than the {texts} scores that it was asked for")
    return [float(score) for score in scores]
