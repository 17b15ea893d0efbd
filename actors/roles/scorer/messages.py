"""What a verifier asks a scorer, and what it is answered; see `actors.transport.codec`.

score     asks for the reward model's scores of texts
logprobs  asks for the teacher's log-probabilities of the N tokens of some completions; beside it travel the arrays
          `prompt`, int32 [P], and `tokens`, int32 [N], completion after completion

Both are answered by {"outcome", "detail"}; where the outcome is scored, with the array `scores`, float32: one of each
text, or of each token.

Outcomes: scored; late, nobody waits any more; failed, another scorer may do better; refused, none would.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

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


class ScoreTokens(Section):
    """The sender waits `wait_seconds` for the log-probabilities of some completions of one prompt, and no longer."""

    worker: str = Field(pattern=NAME, max_length=200, description="unique name of the sender")
    role: Literal["verifier"] = Field(description="what the sender is")
    wait_seconds: float = Field(gt=0, le=MAX_WAIT_SECONDS, description="when nobody waits any more (s)")
    lengths: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, max_length=4096, description="of each completion (tokens)"
    )


ScoreRequest = ScoreTexts | ScoreTokens
REQUESTS: dict[str, type[ScoreRequest]] = {"score": ScoreTexts, "logprobs": ScoreTokens}


def answer(outcome: Outcome, detail: str = "") -> dict[str, Any]:
    """The body of an answer."""
    return {"outcome": outcome, "detail": detail[:MAX_DETAIL]}


def scores_in(arrays: Mapping[str, Array], count: int) -> Array:
    """The scores that came with an answer, float32 [count]. Raises ValueError where they are not so many."""
    scores = arrays.get("scores")
    if scores is None or scores.shape != (count,):
        raise ValueError(f"a scorer gave other than the {count} scores that it was asked for")
    return scores
