"""Waiting for an evaluation, as long as it gets on."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from actors.errors import GaveUpError

#: How often it is looked how an evaluation stands (s).
LOOK_SECONDS = 0.2


class Asks(Protocol):
    """The part of a client of the replay that is needed here; see `Evaluations.standing` for what is answered."""

    def __call__(self, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]: ...


class EvaluationMissingError(GaveUpError):
    """An evaluation ended without a result, which the replay has recorded; the message says why."""


def await_evaluation(
    ask: Asks,
    number: int,
    name: str,
    stall_seconds: float,
    stopped: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the evaluation has its result, or on a stop.

    Args:
        ask: sends a request to the replay; the body of the answer.
        number: of the evaluation, as the replay numbers them.
        name: for messages.
        stall_seconds: it is given up after so long without progress (s).
        stopped: whether the run is being stopped.
        clock, sleep: seconds.

    Raises:
        EvaluationMissingError: it ended without a result.
        GaveUpError: it makes no progress; the message names whom it waits for.
    """
    progress, since = None, clock()
    while not stopped():
        told = ask("evaluation_result", {"evaluation": number})
        if "result" in told:
            return
        if "missing" in told:
            raise EvaluationMissingError(f"the evaluation {name!r}: {told['missing']}")
        if told["progress"] != progress:
            progress, since = told["progress"], clock()
        elif clock() - since > stall_seconds:
            raise GaveUpError(
                f"waited {stall_seconds:g} s (evaluation.stall_seconds) without progress of the evaluation {name!r}, "
                f"which waits for {told['waits_for']}"
            )
        sleep(LOOK_SECONDS)
