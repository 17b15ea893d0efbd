"""The registry of verifiers.

A verifier is a function from a submission to a `Grade`, a bool or a score from 0 to 1:

    from sandbox import Submission, answer_of, verifier

    @verifier("palindrome")
    def palindrome(submission: Submission) -> bool:
        answer = answer_of(submission.response) or ""
        return len(answer) >= submission.reference["length"] and answer == answer[::-1]

That runs in the pool's own process and must be fast. With `isolated=True` it runs in a worker process that is killed
at its deadline: use that for everything that parses model text with code you did not write. The worker imports the
module that defines the function by name, so it must be importable (not `__main__`).

The built-in verifiers register themselves when `sandbox.verifiers` is imported, which the pool and its worker processes
do; this module imports none of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from sandbox.errors import DuplicateVerifierError, UnknownVerifierError
from sandbox.verdict import Grade, Submission

Function = TypeVar("Function", bound=Callable[..., Any])


class Kind(StrEnum):
    """Where a verifier's function runs."""

    INLINE = "inline"
    ISOLATED = "isolated"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True)
class RegisteredVerifier:
    """One entry of the registry.

    Attributes:
        name: what submissions and recipes call it.
        function: `(Submission) -> Grade | bool | float`; of kind `PROGRAM` it also gets a `ProgramRunner`.
        kind: where the function runs.
        warm_up: modules a worker imports before its first check, outside the deadline of the check.
        fast_path: `(Submission) -> Grade | None`, tried in the pool's own process first; None means: ask the worker.
        cache_key: what of a response decides its grade, besides reference and prompt. Submissions with the same key are
            checked once.
        reference_keys: every key of a reference that the function reads; None means: any.
        check_reference: raises BadReferenceError where the reference of a submission cannot be used, whatever the
            response; None means: it is known only when something is verified.
    """

    name: str
    function: Callable[..., Any]
    kind: Kind
    warm_up: tuple[str, ...] = ()
    fast_path: Callable[..., Any] | None = None
    cache_key: Callable[..., str] | None = None
    reference_keys: frozenset[str] | None = None
    check_reference: Callable[[Submission], object] | None = None


_verifiers: dict[str, RegisteredVerifier] = {}


def verifier(
    name: str,
    *,
    isolated: bool = False,
    program: bool = False,
    warm_up: tuple[str, ...] = (),
    fast_path: Callable[[Submission], Grade | None] | None = None,
    cache_key: Callable[[Submission], str] | None = None,
    reference_keys: Iterable[str] | None = None,
    check_reference: Callable[[Submission], object] | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function under `name`.

    Args:
        reference_keys: every key of a reference that the function reads: a record of a file with another one is then
            refused. None: any key is accepted.

    The others are those of `RegisteredVerifier`; `isolated` and `program` say its kind.

    Raises:
        DuplicateVerifierError: the name is taken by another function.
    """
    kind = Kind.PROGRAM if program else Kind.ISOLATED if isolated else Kind.INLINE
    keys = None if reference_keys is None else frozenset(reference_keys)

    def register(function: Function) -> Function:
        known = _verifiers.get(name)
        if known is not None and _origin(known.function) != _origin(function):
            raise DuplicateVerifierError(f"verifier {name!r} is already {_origin(known.function)}; choose another name")
        _verifiers[name] = RegisteredVerifier(
            name, function, kind, warm_up, fast_path, cache_key, keys, check_reference
        )
        return function

    return register


def lookup(name: str) -> RegisteredVerifier:
    """The verifier called `name`.

    Raises:
        UnknownVerifierError: there is none; the message lists the known names, and the nearest one.
    """
    try:
        return _verifiers[name]
    except KeyError:
        near = difflib.get_close_matches(name, verifier_names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        error = UnknownVerifierError(f"no verifier is called {name!r}; known are {', '.join(verifier_names())}{hint}")
        # Shown in a traceback only: a command line cannot follow it.
        error.add_note("A verifier of your own: import the module that registers it before the pool is used.")
        raise error from None


def verifier_names() -> list[str]:
    """Names of all registered verifiers, sorted."""
    return sorted(_verifiers)


def _origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
