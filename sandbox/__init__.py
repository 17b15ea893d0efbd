"""Scores model answers: nothing escapes, nothing is forged, nothing waits."""

from __future__ import annotations

from sandbox.config import RewardConfig, RewardWeights, SandboxConfig
from sandbox.errors import (
    BadReferenceError,
    IsolationError,
    PoolClosedError,
    SandboxError,
    UnknownVerifierError,
    WorkerStartError,
)
from sandbox.extraction import answer_of
from sandbox.pool import Pool
from sandbox.registry import lookup, verifier
from sandbox.verdict import Grade, Status, Submission, Verdict

__all__ = [
    "BadReferenceError",
    "Grade",
    "IsolationError",
    "Pool",
    "PoolClosedError",
    "RewardConfig",
    "RewardWeights",
    "SandboxConfig",
    "SandboxError",
    "Status",
    "Submission",
    "UnknownVerifierError",
    "Verdict",
    "WorkerStartError",
    "answer_of",
    "lookup",
    "verifier",
]
