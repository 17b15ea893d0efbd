"""The teacher of on-policy distillation, as a verifier asks it: the log-probabilities of all tokens of a group."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from actors.config.recipe import Recipe
from actors.errors import ScorerError
from actors.replay.payload import logprobs_are_valid
from actors.roles.verifier.scorer_pool import ScorerPool
from actors.transport.codec import Array

log = logging.getLogger(__name__)


class TeacherScores:
    """What the scorers say of leased groups."""

    def __init__(self, pool: ScorerPool) -> None:
        self._pool = pool
        self.wait_ready, self.close = pool.wait_ready, pool.close

    def __call__(self, group: Mapping[str, Any], arrays: Mapping[str, Array], deadline: float) -> dict[str, Array]:
        """The arrays that the verdict on a leased group takes along; none for an evaluation.

        Args:
            group: as it was leased.
            arrays: its prompt, int32 [P], and tokens, int32 [N].
            deadline: of time.monotonic.

        Raises:
            ScorerError: there were none in time.
            BatchError: the teacher cannot read the group.
            ProtocolError: the request is none that a scorer takes.
        """
        if group["purpose"] != "train":
            return {}
        body, lengths = {"lengths": group["lengths"]}, sum(group["lengths"])
        found = self._pool.ask("logprobs", body, arrays, lengths, deadline - time.monotonic())
        if not logprobs_are_valid(found):
            raise ScorerError(
                "the teacher gave a log-probability that is positive or not finite; its weights may be damaged"
            )
        return {"teacher_logprobs": found}


def open_teacher(
    recipe: Recipe, name: str, scorers: Callable[[], Mapping[str, str]], stopped: Callable[[], bool]
) -> TeacherScores | None:
    """What asks the teacher in this run, once there is one to ask; None where the recipe has none, or on a stop.

    Args:
        recipe: the run's.
        name: of this verifier.
        scorers: where the scorers are that take requests, by name.
        stopped: whether this verifier is to end.

    Raises:
        GaveUpError: no scorer is there in time.
    """
    if recipe.distillation is None or not recipe.has_scorers:
        return None
    key = "distillation.wait_seconds"
    teacher = TeacherScores(ScorerPool(name, recipe.distillation.wait_seconds, scorers, key))
    teacher.wait_ready(stopped)
    return None if stopped() else teacher
