"""The verifier of tasks that no rule decides, such as general prompts."""

from __future__ import annotations

from sandbox.registry import verifier
from sandbox.verdict import Grade, Status, Submission

#: Its name.
NO_RULE = "none"


@verifier(NO_RULE, reference_keys=())
def absent(_: Submission) -> Grade:
    """Compares with nothing: the reward has no part `accuracy`, and all others."""
    return Grade(Status.UNVERIFIED)
