"""Errors of the sandbox. Every message says what to do next."""

from __future__ import annotations


class SandboxError(Exception):
    """Base of all errors raised by this package."""


class UnknownVerifierError(SandboxError, LookupError):
    """No verifier is registered under that name."""


class BadReferenceError(SandboxError, ValueError):
    """A submission's reference lacks a key its verifier needs, or holds a value of the wrong type."""


class IsolationError(SandboxError):
    """Model-written programs cannot be run safely here, so none is run."""


class FilesError(SandboxError, ValueError):
    """Input files, or files to fetch, that cannot be had: their paths or sizes are not allowed, or nothing is here."""


class WorkerStartError(SandboxError):
    """A worker process did not become ready within its start-up deadline."""


class WorkerTimeoutError(SandboxError):
    """A worker process exceeded its deadline and was killed.

    Attributes:
        starved: it got so little CPU time that the machine, not the request, is to blame.
    """

    def __init__(self, message: str, *, starved: bool = False) -> None:
        super().__init__(message)
        self.starved = starved


class WorkerDiedError(SandboxError):
    """A worker process ended in the middle of a request.

    Attributes:
        signal: number of the signal that ended it, or None if it exited by itself or the cause is unknown.
    """

    def __init__(self, message: str, signal: int | None = None) -> None:
        super().__init__(message)
        self.signal = signal


class DeadlineError(SandboxError):
    """The deadline the caller gave passed before a verdict was reached."""


class PoolClosedError(SandboxError):
    """The pool was used after `close()`."""
