"""The ladder: everything that can be known without a cluster about whether one would take the manifests."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from actors.errors import RecipeError
from deploy import admission, operator_rules, pod_security, scheduling

#: What the checks import, and what to install for it.
NEEDED = {
    "cel": "common-expression-language",
    "jsonschema": "jsonschema",
    "kubernetes_validate": "kubernetes-validate",
    "ray": "ray",
}


def faults(documents: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each fault of the manifests, which begins with the object.

    Raises:
        RecipeError: there is nothing to check, or something to check with is not installed.
    """
    if absent := [package for module, package in NEEDED.items() if find_spec(module) is None]:
        raise RecipeError(f"checking manifests needs {', '.join(absent)}: pip install {' '.join(absent)}")
    if not documents:
        raise RecipeError("there are no manifests to check")
    for document in documents:
        if not (isinstance(document, dict) and document.keys() >= {"apiVersion", "kind", "metadata"}):
            raise RecipeError("a document has no apiVersion, kind and metadata: it is no manifest")
        name = f"{document['kind']}/{document['metadata'].get('name')}"
        yield from (f"{name}: {fault}" for fault in _faults(document))
    yield from _together(documents)


def _faults(document: dict[str, Any]) -> Iterator[str]:
    if not document["metadata"].get("name"):
        yield "/metadata/name: is missing, and `kubectl apply` takes no generateName"
    wrong = list(admission.refused(document))
    yield from wrong
    if wrong:  # the rules below rely on what admission makes sure of
        return
    if document["kind"] in operator_rules.RULES:
        yield from operator_rules.RULES[document["kind"]](document)
    for path, pod in pod_security.pods(document):
        yield from (f"{path}: {fault}" for fault in pod_security.refused(pod))
    if document["kind"] == "RayCluster":
        yield from pod_security.autoscaler(document)


def _together(documents: list[dict[str, Any]]) -> Iterator[str]:
    """What several objects say of one another: Ray's autoscaler, with the demand of the recipe."""
    recipe = scheduling.recipe_of(documents)
    for document in documents:
        if document["kind"] == "RayCluster" and recipe is not None:
            try:
                yield from (f"RayCluster: {fault}" for fault in scheduling.faults(document, recipe))
            except (KeyError, ValueError) as error:
                yield f"RayCluster: Ray's autoscaler cannot read it: {error!r}"
