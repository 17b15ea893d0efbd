"""What a task is verified by: read from its line, and shown to its verifier before anything starts."""

import difflib
from collections.abc import Mapping
from typing import Any

from actors.config.checks import unknown_verifier
from actors.errors import RecipeError
from actors.tasks.records import Record, value_of
from actors.tasks.task import Messages, Task, problem_key
from sandbox import BadReferenceError, Submission, lookup
from sandbox.registry import Kind

#: The key of a line under which a whole reference stands.
REFERENCE = "reference"


def reference_keys(verifier: str) -> frozenset[str]:
    """The keys of a line that make up its reference where it has none of that name; empty for an unknown verifier, and
    for one of the user's own that does not say."""
    return frozenset() if unknown_verifier(verifier) else lookup(verifier).reference_keys or frozenset()


def written_reference(record: Record, verifier: str, place: str) -> dict[str, Any] | None:
    """The reference of a line that has more than an `answer`: what stands under `reference`, or else, for a verifier of
    programs, its fields in the line itself, as `leeway score` reads them. None for a line with an answer.

    Raises:
        RecipeError: `reference` is no object, stands beside one of its fields, or has one that the verifier does not
            read.
    """
    known = reference_keys(verifier)
    if REFERENCE not in record:
        if not known or "answer" in known:
            return None
        fields = {key: record[key] for key in sorted(known) if record.get(key) is not None}
        if "answer" in record or not fields:
            raise RecipeError(
                f"{place}: `verifier`: {verifier} reads {', '.join(sorted(known))}; give what it needs of these or use "
                "math, numeric or exact for an `answer`"
            )
        return dict(value_of(fields, place))
    reference = record[REFERENCE]
    if not isinstance(reference, dict):
        raise RecipeError(f"{place}: `{REFERENCE}` must be an object with what {verifier} compares with")
    if beside := sorted((known | {"answer"}) & record.keys()):
        raise RecipeError(f"{place}: `{REFERENCE}` and `{beside[0]}` are both given; move `{beside[0]}` into it")
    for key in reference.keys() - known if known else ():
        near = difflib.get_close_matches(key, sorted(known), n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(sorted(known))}"
        raise RecipeError(f"{place}: `{REFERENCE}`: {verifier} has no field `{key}`; {hint}")
    answer = {"answer": str(reference["answer"])} if isinstance(reference.get("answer"), str) else {}
    return {**value_of(reference, place), **answer}


def require_verifiable(verifier: str, reference: Mapping[str, Any], place: str) -> None:
    """Refuse a task whose verifier there is none of, or whose reference it cannot use.

    A verifier that says what it can use is asked; one that costs no process is shown the reference with an empty
    response. Verifiers of the user's own are known once the module that registers them is imported.

    Raises:
        RecipeError: names the place and the key.
    """
    if unusable := unknown_verifier(verifier):
        raise RecipeError(f"{place}: `verifier`: {unusable}")
    found = lookup(verifier)
    quick = found.check_reference or (found.function if found.kind is Kind.INLINE else found.fast_path)
    if quick is None:
        return
    try:
        quick(Submission(verifier, "", reference))
    except BadReferenceError as error:
        key = "answer" if "answer" in reference else REFERENCE
        raise RecipeError(f"{place}: `{key}`: {error}") from error
    except Exception:  # noqa: BLE001 - a verifier of the user's own may stumble over an empty response
        return


def verifiable(
    place: str, asked: Messages, verifier: str, reference: Mapping[str, Any], problem: Messages | None = None
) -> Task:
    """The task of a line; `problem` is what identifies it, where more is asked than that.

    Raises:
        RecipeError: its verifier cannot use the reference, or there is none of that name.
    """
    require_verifiable(verifier, reference, place)
    return Task(problem_key(problem or asked), asked, verifier, reference)
