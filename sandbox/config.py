"""Configuration of rewards and of the pool."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIB = 1024 * 1024


class RewardWeights(BaseModel):
    """Weights of the parts of a reward; the reward is the weighted sum of the parts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accuracy: float = Field(default=1.0, description="weight of the verifier's score (0 to 1)")
    format: float = Field(default=0.0, description="weight of the format check (0 or 1)")
    language: float = Field(
        default=0.0, description="weight of the share of target-language words in the reasoning (0 to 1)"
    )
    overlong: float = Field(default=0.0, description="weight of DAPO's soft overlong part (-1 to 0)")
    repetition: float = Field(default=0.0, description="weight of the repetition part (-1 to 0)")


class RewardConfig(BaseModel):
    """Which parts a reward has and how they are computed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weights: RewardWeights = Field(default=RewardWeights(), description="weights of the parts")
    format: Literal["none", "r1_zero", "boxed"] = Field(
        default="none",
        description="format checker: r1_zero is <think>…</think><answer>…</answer>, boxed asks for one \\boxed{}",
    )
    language: str | None = Field(
        default=None, description="target language of the reasoning as ISO 639-1 code; none: the part is not computed"
    )
    overlong_max_tokens: int | None = Field(
        default=None,
        gt=0,
        description="length in tokens at which the soft overlong part reaches -1; none: not computed",
    )
    overlong_cache_tokens: int = Field(
        default=512,
        gt=0,
        description="width in tokens of the interval before overlong_max_tokens in which the part falls to -1",
    )
    repetition_ngram: int | None = Field(
        default=None, ge=2, description="words per n-gram of the repetition part; none: not computed"
    )

    @model_validator(mode="after")
    def _interval_fits(self) -> RewardConfig:
        if self.overlong_max_tokens is not None and self.overlong_cache_tokens > self.overlong_max_tokens:
            raise ValueError("overlong_cache_tokens must not exceed overlong_max_tokens")
        return self

    @model_validator(mode="after")
    def _no_weight_is_ignored(self) -> RewardConfig:
        if self.weights.format and self.format == "none":
            raise ValueError("weights.format needs format: r1_zero or boxed")
        if self.weights.language and self.language is None:
            raise ValueError("weights.language needs language")
        if self.weights.overlong and self.overlong_max_tokens is None:
            raise ValueError("weights.overlong needs overlong_max_tokens")
        if self.weights.repetition and self.repetition_ngram is None:
            raise ValueError("weights.repetition needs repetition_ngram")
        return self


class SandboxConfig(BaseModel):
    """Processes, deadlines and limits of a pool. Durations are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    workers: int = Field(
        default=2, ge=1, description="submissions checked at the same time; also worker processes at most"
    )
    start_seconds: float = Field(
        default=60.0, gt=0, description="deadline of a worker process's start and imports, seconds"
    )
    grader_seconds: float = Field(
        default=2.0, gt=0, description="deadline of one check in a grader worker (math, reasoning_gym), seconds"
    )
    grader_memory_bytes: int = Field(default=1024 * MIB, gt=0, description="address space of a grader worker, bytes")
    grader_recycle_checks: int = Field(default=2000, ge=1, description="checks after which a grader worker is replaced")
    test_seconds: float = Field(
        default=10.0, gt=0, description="wall-clock limit of one test case of a program, seconds"
    )
    cpu_seconds: float = Field(default=10.0, gt=0, description="CPU limit of one test case of a program, seconds")
    memory_bytes: int = Field(default=512 * MIB, gt=0, description="address space of a model-written program, bytes")
    output_bytes: int = Field(
        default=4 * MIB, gt=0, description="output kept of one test case; more ends the program, bytes"
    )
    uid_base: int = Field(
        default=64000,
        gt=0,
        description="when root: programs run as one of the 1500 user ids from this one on, which must be unused",
    )
    preload: tuple[str, ...] = Field(
        default=(), description="modules imported before programs run, such as numpy or sympy"
    )
    importable: tuple[str, ...] = Field(
        default=("numpy",),
        description="packages that programs may import beyond the standard library, where they are installed; each "
        "program pays for its own import, unlike for those of preload",
    )
    scratch_bytes: int = Field(
        default=0,
        ge=0,
        description="size of a directory of its own that every stdio and function program starts in and may write to; "
        "0: none. Needs a mount namespace, so root or user namespaces; costs an interpreter's start a program, bytes",
    )
    files_bytes: int = Field(
        default=16 * MIB,
        gt=0,
        description="size of the files that one request of the HTTP server may send, and of the directory that its "
        "program gets for them, bytes",
    )
    partial_credit: bool = Field(default=False, description="score the share of tests passed instead of all or nothing")
    cache_entries: int = Field(default=4096, ge=0, description="verdicts of identical programs remembered; 0: none")
    self_test_seconds: float = Field(
        default=300.0, gt=0, description="age at which the isolation self-test is run again, seconds"
    )
    unsafe: bool = Field(
        default=False,
        description="run model-written programs even where nothing isolates them; recorded in every verdict",
    )
