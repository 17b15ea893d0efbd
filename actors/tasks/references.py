"""Whether a task can be verified at all, asked of its verifier before anything starts."""

from collections.abc import Mapping
from typing import Any

from actors.config.checks import unusable_verifier
from actors.errors import RecipeError
from sandbox import BadReferenceError, Submission, lookup
from sandbox.registry import Kind


def require_verifiable(verifier: str, reference: Mapping[str, Any], place: str) -> None:
    """Refuse a task whose verifier there is none of, or whose reference it cannot use.

    A verifier that costs no process is shown the reference with an empty response. Verifiers of the user's own are
    known once the module that registers them is imported.

    Raises:
        RecipeError: names the place and the key.
    """
    if unusable := unusable_verifier(verifier):
        raise RecipeError(f"{place}: `verifier`: {unusable}")
    found = lookup(verifier)
    quick = found.function if found.kind is Kind.INLINE else found.fast_path
    if quick is None:
        return
    try:
        quick(Submission(verifier, "", reference))
    except BadReferenceError as error:
        raise RecipeError(f"{place}: `answer`: {error}") from error
    except Exception:  # noqa: BLE001 - a verifier of the user's own may stumble over an empty response
        return
