"""The errors that a user or an operator can meet. Each message says what to do next.

    LeewayError                      exit code 1: the run or the machine failed
    ├── RecipeError                  exit code 2: what was given is wrong
    ├── PeerTimeoutError
    ├── ProtocolError
    │   └── ForbiddenError
    ├── EngineError
    ├── JournalBlockedError
    ├── StorageError
    ├── JudgeError
    │   └── NoScoreError
    ├── JudgeRefusalError
    ├── ScorerError
    └── RunError
        ├── GaveUpError
        └── JournalError
            └── JournalHeldError
    LearnerError ...                 learner/errors.py
    SandboxError ...                 sandbox/errors.py

`learner` and `sandbox` know neither each other nor `actors`, so no class stands above all three roots. `ERRORS` takes
its place in `except`, and `exit_code` is an attribute of every class under it. (An abstract base class with which the
others are registered would not do: `except` looks at real base classes alone.)
"""

from typing import ClassVar

from learner.errors import LearnerError
from sandbox.errors import SandboxError


class LeewayError(Exception):
    """The base of every error that this package raises on purpose.

    Attributes:
        exit_code: of a command that this error ends: 2 where the user's input is wrong, else 1.
    """

    exit_code: ClassVar[int] = 1


class RecipeError(LeewayError):
    """A recipe, an option or an input file is wrong."""

    exit_code: ClassVar[int] = 2


class PeerTimeoutError(LeewayError):
    """A peer did not answer before its deadline; the message names the peer and the wait."""


class ProtocolError(LeewayError):
    """A message on the wire is malformed. Nothing was changed."""


class ForbiddenError(ProtocolError):
    """A request that the role is not to send which the sender's key is for. Nothing was changed."""


class EngineError(LeewayError):
    """An engine can serve no longer: its weights are of two versions, or it does not answer. Its process has to end,
    so that another takes its place."""


class RunError(LeewayError):
    """A run cannot start or resume; the message says which part failed and where its log is."""


class GaveUpError(RunError):
    """Something that a process waited for did not come in the time that the recipe gives it. Another in its place would
    wait as long for it, so the run ends."""


class JournalBlockedError(LeewayError):
    """The replay's journal cannot be written now, where its disk is full, say. Nothing was written, and it may go well
    later.
    """


class StorageError(LeewayError):
    """What a URI names cannot be read or written now; it may go well later."""


class JudgeError(LeewayError):
    """A judge does not answer, or answers that it is busy or broken; it may go well later.

    Attributes:
        pause: how long it asks to be left alone (s).
    """

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class NoScoreError(JudgeError):
    """What a judge wrote holds no score."""


class JudgeRefusalError(LeewayError):
    """A judge refuses one request, such as one that is longer than it reads, and would refuse it again."""


class ScorerError(LeewayError):
    """No scorer has answered in time; it may go well later."""


class JournalError(RunError):
    """The replay's journal is damaged, or is of something else; the message says which."""


class JournalHeldError(JournalError):
    """Another process has the replay's journal open."""


#: Every error of ours, of all three packages.
ERRORS = (LeewayError, LearnerError, SandboxError)


def exit_code(error: LeewayError | LearnerError | SandboxError) -> int:
    """The exit code of a command that an error of ours ends: 2 where the input is wrong, else 1."""
    return error.exit_code
