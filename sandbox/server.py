"""The verifier pool over HTTP: SandboxFusion's `/run_code`, value-based verdicts at `/verify`, `/metrics`.

The application is made by `make_app` around a pool whose life is the caller's business.
"""

from __future__ import annotations

import base64
import os
import threading
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from sandbox import metrics
from sandbox.config import MIB, SandboxConfig
from sandbox.errors import FilesError, SandboxError
from sandbox.gate import Admits, Gate, Token
from sandbox.pool import Pool
from sandbox.programs.outcome import Outcome
from sandbox.verdict import Status, Submission, Verdict

MAX_BODY_BYTES = 32 * MIB
# Where a client may look without a token: whether the server is there, and nothing else.
_OPEN_PATHS = frozenset({"/healthz", "/v1/ping"})

# SandboxFusion's names; of these languages only Python runs here. Any other name is a malformed request, as there.
Language = Literal[
    "python", "cpp", "nodejs", "go", "go_test", "java", "php", "csharp", "bash", "typescript", "sql", "rust", "cuda",
    "lua", "R", "perl", "D_ut", "ruby", "scala", "julia", "pytest", "junit", "kotlin_script", "jest", "verilog",
    "python_gpu", "lean", "swift", "racket",
]  # fmt: skip


class RunRequest(BaseModel):
    """SandboxFusion's request. Fields it may hold beyond these are ignored, as there."""

    code: str = Field(max_length=1_000_000)
    language: Language = "python"
    stdin: str | None = None
    compile_timeout: float = Field(default=10.0, gt=0)
    run_timeout: float = Field(default=10.0, gt=0)
    memory_limit_MB: int = -1  # noqa: N815 - SandboxFusion's name
    files: dict[str, str | None] = Field(default_factory=dict)
    fetch_files: list[str] = Field(default_factory=list, max_length=256)


class RunResult(BaseModel):
    """SandboxFusion's result of one command."""

    status: Literal["Finished", "Error", "TimeLimitExceeded"]
    execution_time: float | None = None
    return_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None


class RunResponse(BaseModel):
    """SandboxFusion's response."""

    status: Literal["Success", "Failed", "SandboxError"]
    message: str = ""
    compile_result: RunResult | None = None
    run_result: RunResult | None = None
    executor_pod_name: str | None = None
    files: dict[str, str] = Field(default_factory=dict)


class SubmissionBody(BaseModel):
    """One submission; see `sandbox.Submission`."""

    model_config = ConfigDict(extra="forbid")

    verifier: str
    response: str
    reference: dict[str, Any]
    prompt: str = ""
    truncated: bool = False
    length: int = Field(default=0, ge=0)


class VerifyRequest(BaseModel):
    """Submissions to score together."""

    model_config = ConfigDict(extra="forbid")

    submissions: list[SubmissionBody] = Field(min_length=1, max_length=1024)
    deadline_seconds: float = Field(default=60.0, gt=0, le=3600)


class VerdictBody(BaseModel):
    """One verdict; see `sandbox.Verdict`."""

    status: Status
    reward: float | None
    parts: dict[str, float]
    seconds: float
    detail: str
    unsafe: bool

    @classmethod
    def of(cls, verdict: Verdict) -> VerdictBody:
        """From the pool's verdict."""
        return cls(
            status=verdict.status,
            reward=verdict.reward,
            parts=verdict.parts,
            seconds=verdict.seconds,
            detail=verdict.detail,
            unsafe=verdict.unsafe,
        )


class VerifyResponse(BaseModel):
    """Verdicts in the order of the submissions."""

    verdicts: list[VerdictBody]


def make_app(
    pool: Pool, *, token: str | None = None, max_concurrent: int = 64, max_body_bytes: int = MAX_BODY_BYTES
) -> FastAPI:
    """The HTTP application.

    Args:
        pool: where to score; not closed by the application.
        token: what clients must send as `Authorization: Bearer …`; None: no check (bind to loopback only).
        max_concurrent: requests worked on at the same time; further ones get 503 and may try again.
        max_body_bytes: largest request body, bytes; a larger one gets 413.
    """
    app = FastAPI(title="Leeway sandbox", docs_url=None, redoc_url=None, openapi_url=None)
    slots = threading.BoundedSemaphore(max_concurrent)

    @app.get("/healthz")
    @app.get("/v1/ping")
    def ping() -> str:
        return "pong"

    @app.get("/metrics")
    def exported() -> Response:
        shown = generate_latest(REGISTRY) + generate_latest(metrics.REGISTRY)
        return Response(shown, media_type=CONTENT_TYPE_LATEST)

    @app.post("/run_code")
    def run_code(body: RunRequest) -> RunResponse:
        with _slot(slots):
            return _run(pool, body)

    @app.post("/verify")
    def verify(body: VerifyRequest) -> VerifyResponse:
        submissions = [Submission(**item.model_dump()) for item in body.submissions]
        with _slot(slots):
            verdicts = pool.score(submissions, body.deadline_seconds)
        return VerifyResponse(verdicts=[VerdictBody.of(verdict) for verdict in verdicts])

    @app.exception_handler(SandboxError)
    def broken(_: Request, error: SandboxError) -> Response:
        return Response(str(error), status_code=503, media_type="text/plain")

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        # FastAPI's own answer quotes the input, which need not be text.
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return JSONResponse({"detail": problems}, status_code=422)

    app.add_middleware(Gate, admits=_admits(token), max_body_bytes=max_body_bytes)
    return app


def _admits(token: str | None) -> Admits:
    wanted = None if token is None else Token(token)
    return lambda _, path, given: wanted is None or path in _OPEN_PATHS or wanted.matches(given)


class _slot:  # noqa: N801 - used as a function
    """Holds one of the slots, or refuses the request."""

    def __init__(self, slots: threading.BoundedSemaphore) -> None:
        self._slots = slots

    def __enter__(self) -> None:
        if not self._slots.acquire(blocking=False):
            raise HTTPException(503, "busy: too many requests at once, try again", headers={"Retry-After": "1"})

    def __exit__(self, *_: object) -> None:
        self._slots.release()


def _run(pool: Pool, body: RunRequest) -> RunResponse:
    pod = os.environ.get("MY_POD_NAME")
    if body.language != "python":
        return _sandbox_error(f"language {body.language!r} is not supported here: only python is", pod)
    job: dict[str, Any] = {
        "kind": "stdio",
        "source": body.code.removeprefix("\ufeff"),
        "imports_files": bool(body.files),
    }
    if body.memory_limit_MB > 0:
        job["memory_bytes"] = min(body.memory_limit_MB * MIB, pool.config.memory_bytes)
    lowered = _lowered(body, pool.config)
    stdin = (body.stdin or "").encode("utf-8", "replace")
    found: dict[str, bytes] = {}
    try:
        # Twice the limit: as long again may be spent on waiting for a fork server.
        runner = pool.runner(2 * min(body.run_timeout, pool.config.test_seconds) + pool.config.start_seconds)
        if body.files or body.fetch_files:
            files = {name: _decoded(name, content) for name, content in body.files.items() if content is not None}
            outcome, found = runner.run_with_files(job, stdin, files, body.fetch_files, seconds=body.run_timeout)
        else:
            outcome = runner.run(job, stdin, streams=True, seconds=body.run_timeout)
    except (SandboxError, OSError) as error:
        return _sandbox_error(str(error), pod)
    if outcome.ended in lowered:
        # What it asked for might have been enough.
        return _sandbox_error(f"{lowered[outcome.ended]}, which was not enough: {outcome.detail}", pod)
    result = _result(outcome)
    success = result.status == "Finished" and result.return_code == 0
    return RunResponse(
        status="Success" if success else "Failed",
        message="; ".join(filter(None, [outcome.detail, *lowered.values()])),
        run_result=result,
        executor_pod_name=pod,
        files={name: base64.b64encode(content).decode("ascii") for name, content in found.items()},
    )


def _lowered(body: RunRequest, config: SandboxConfig) -> dict[Status | None, str]:
    """What a request asks for and does not get, in words, by the status of a program that needs more."""
    found: dict[Status | None, str] = {}
    seconds = min(config.test_seconds, config.cpu_seconds)
    if body.run_timeout > seconds:
        found[Status.TIMEOUT] = f"run_timeout was lowered from {body.run_timeout:g} to {seconds:g} seconds"
    most = config.memory_bytes // MIB
    if body.memory_limit_MB * MIB > config.memory_bytes:
        found[Status.MEMORY] = f"memory_limit_MB was lowered from {body.memory_limit_MB} to {most}"
    return found


def _sandbox_error(message: str, pod: str | None) -> RunResponse:
    return RunResponse(status="SandboxError", message=message, executor_pod_name=pod)


def _decoded(name: str, content: str) -> bytes:
    try:
        return base64.b64decode(content)
    except ValueError as error:
        raise FilesError(f"the content of {name[:80]!r} is not base64: {error}") from None


def _result(outcome: Outcome) -> RunResult:
    timed_out = outcome.ended is Status.TIMEOUT
    return RunResult(
        status="TimeLimitExceeded" if timed_out else "Finished",
        execution_time=outcome.seconds,
        return_code=None if timed_out else outcome.exit_code,
        stdout=outcome.stdout.decode("utf-8", "replace"),
        stderr=outcome.stderr.decode("utf-8", "replace"),
    )
