"""The errors of the sandbox. Every message says what to do next.

    SandboxError                     exit code 1: the machine, or whoever runs it, is at fault
    ├── InputError                   exit code 2: what was given is wrong, and stays wrong when it is tried again
    │   ├── ConfigError
    │   ├── BadRecordError           (a ValueError, too)
    │   ├── BadReferenceError        (a ValueError, too)
    │   ├── FilesError               (a ValueError, too)
    │   ├── UnknownLanguageError     (a ValueError, too)
    │   ├── UnknownVerifierError     (a LookupError, too)
    │   └── DuplicateVerifierError
    ├── IsolationError
    ├── WorkerStartError
    ├── WorkerTimeoutError
    ├── WorkerDiedError
    ├── DeadlineError
    └── PoolClosedError

A class attribute, `exit_code`, says how a command that met the error ends.
"""

from __future__ import annotations

from typing import ClassVar


class SandboxError(Exception):
    """Base of all errors raised by this package.

    Attributes:
        exit_code: exit status of a command that ends with this error.
    """

    exit_code: ClassVar[int] = 1


class InputError(SandboxError):
    """A file, an option or a value that was given cannot be used."""

    exit_code: ClassVar[int] = 2


class ConfigError(InputError):
    """A configuration file cannot be read, or a key or value in it is wrong."""


class BadRecordError(InputError, ValueError):
    """A line that is not a record."""


class BadReferenceError(InputError, ValueError):
    """A submission's reference lacks a key its verifier needs, or holds a value of the wrong type."""


class FilesError(InputError, ValueError):
    """Input files, or files to fetch, that cannot be had: their paths or sizes are not allowed, or nothing is here."""


class UnknownLanguageError(InputError, ValueError):
    """The language of the reasoning is unknown here, or its detector is not installed."""


class UnknownVerifierError(InputError, LookupError):
    """No verifier is registered under that name."""


class DuplicateVerifierError(InputError):
    """Another function is registered under that name."""


class IsolationError(SandboxError):
    """Model-written programs cannot be run safely here, so none is run."""


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
