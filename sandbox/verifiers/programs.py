"""Model-written programs."""

from __future__ import annotations

from sandbox.errors import IsolationError
from sandbox.registry import verifier
from sandbox.verdict import Grade, Submission

_REFUSAL = "model-written programs are refused: this version has no isolation backend yet"


@verifier("stdio", program=True)
def stdio(_: Submission) -> Grade:
    """`{"tests": [{"stdin", "stdout"}]}`."""
    raise IsolationError(_REFUSAL)


@verifier("function", program=True)
def function(_: Submission) -> Grade:
    """`{"entry", "tests": [[args, expected], ...]}`."""
    raise IsolationError(_REFUSAL)


@verifier("assert", program=True)
def assertion(_: Submission) -> Grade:
    """`{"entry", "test"}`."""
    raise IsolationError(_REFUSAL)
