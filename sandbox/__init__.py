"""Scores model answers: nothing escapes, nothing is forged, nothing waits.

The rule everything follows: a process that runs model-written code emits values, never verdicts, and expected values
never exist in it nor in its ancestors by fork. `sandbox.jail` holds what runs there (standard library only): a fork
server forks one child a test case, which locks itself down with hard limits, Landlock and a seccomp allowlist; an
isolation self-test proves it before any program runs. Where the kernel allows it the fork server also has namespaces
and a root of its own; where it does not, as in ordinary pods, programs can still see with `stat` which paths exist, and
nothing more.

Needed: Linux on x86_64 or aarch64 with seccomp and pidfds (5.3). Without Landlock (5.13) programs cannot open any
file, so they can import only what is loaded beforehand (`preload`). Programs are Python; there is no writable path.
"""

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
from sandbox.registry import lookup, verifier, verifier_names
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
    "verifier_names",
]
