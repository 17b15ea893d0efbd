"""What goes into the verifier pool and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Outcome of one submission.

    Every status but `INFRA_ERROR` is about the submission and carries a reward. `INFRA_ERROR` is about us: it is
    retried elsewhere and never scored. `UNVERIFIED` says that no rule decides about the task: the reward has no part
    `accuracy`.
    """

    OK = "ok"
    WRONG = "wrong"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    UNPARSEABLE = "unparseable"
    FORBIDDEN = "forbidden"
    UNVERIFIED = "unverified"
    INFRA_ERROR = "infra_error"


@dataclass(frozen=True, slots=True)
class Submission:
    """One model answer and the reference it is checked against.

    Attributes:
        verifier: name in the registry.
        response: the whole model answer.
        reference: JSON-like: `{"answer": "42"}`, `{"tests": [...]}`, `{"entry": ..., "test": ...}`,
            `{"dataset": "chain_sum", "entry": {...}}`, ...
        prompt: what the model was asked; some verifiers put it before the response's code.
        truncated: the completion ran into its length limit.
        length: length of the completion in tokens.
    """

    verifier: str
    response: str
    reference: Mapping[str, Any]
    prompt: str = ""
    truncated: bool = False
    length: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pool found out about one submission.

    Attributes:
        status: the outcome.
        reward: weighted sum of `parts`; None only for `Status.INFRA_ERROR`.
        parts: the unweighted parts of the reward by name ("accuracy", "format", "language", ...).
        seconds: wall time from the start of the check to its end, without queueing.
        detail: one line for humans; may quote the submission, never the expected output of a program.
        unsafe: the verdict was produced without isolation because the configuration demanded it.
        retryable: with `Status.INFRA_ERROR`, that the machine is at fault, and not the submission.
    """

    status: Status
    reward: float | None
    parts: dict[str, float]
    seconds: float
    detail: str = ""
    unsafe: bool = False
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Grade:
    """What a verifier found about correctness alone, before format, language and penalties are added.

    Attributes:
        status: the outcome.
        accuracy: share of the task that is right, from 0 to 1; it means nothing where the status is `UNVERIFIED`.
        detail: one line for humans.
        parts: further unweighted parts the verifier wants to report (weight 0 unless the configuration names them).
    """

    status: Status
    accuracy: float = 0.0
    detail: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, accuracy: float | bool, detail: str = "") -> Grade:
        """A grade from a plain score: `OK` if it is full, `WRONG` (with its partial credit) otherwise."""
        score = min(1.0, max(0.0, float(accuracy)))
        return cls(Status.OK if score >= 1.0 - 1e-9 else Status.WRONG, score, detail)


def as_grade(result: Any) -> Grade:
    """A verifier's result as a grade.

    Raises:
        TypeError: it is neither a `Grade` nor a bool nor a number.
    """
    if isinstance(result, Grade):
        return result
    if isinstance(result, bool | int | float):
        return Grade.of(result)
    raise TypeError(f"a verifier returns a Grade, a bool or a number from 0 to 1, not {type(result).__name__}")
