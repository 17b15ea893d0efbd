"""What an API server would refuse: core kinds by their published schemas, Ray's by the vendored CRDs (KubeRay 1.7).

Of a custom resource it drops nulls, applies defaults, refuses unknown fields, and evaluates the CRD's CEL rules.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).resolve().parent / "crds"
KUBERNETES = "1.37"
Schema = dict[str, Any]
_KEPT = {"type", "enum", "required", "pattern"} | {
    f"{bound}{what}" for bound in ("min", "max") for what in ("imum", "Length", "Items", "Properties")
}


def refused(document: dict[str, Any]) -> Iterator[str]:
    """One line for each fault; defaults are filled in, in place."""
    kind = document["apiVersion"], document["kind"]
    known = _definitions().get(kind)
    if known is None:
        yield from _core(document)
        return
    yield from _admitted(known, document, "")
    for error in _validator(kind).iter_errors(document):
        yield f"/{'/'.join(map(str, error.path))}: {error.message[:200]}"


def _core(document: dict[str, Any]) -> Iterator[str]:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"/{'/'.join(map(str, error.path))}: {error.message[:200]}"
    except kubernetes_validate.SchemaNotFoundError:
        yield f"{document['apiVersion']} has no such kind, and there is no definition of it in deploy/crds"


@cache
def _definitions() -> dict[tuple[str, str], Schema]:
    found = {}
    for path in sorted(CRDS.glob("*.yaml")):
        spec = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


@cache
def _validator(kind: tuple[str, str]) -> Any:
    from jsonschema import Draft7Validator

    return Draft7Validator(_closed(_definitions()[kind]))


def _closed(schema: Any) -> Any:
    """A structural schema as a JSON schema in which every field that is not named is refused."""
    if schema.get("x-kubernetes-int-or-string"):
        pattern = {"pattern": schema["pattern"]} if "pattern" in schema else {}
        return {"anyOf": [{"type": "integer"}, {"type": "string"}], **pattern}
    closed = {key: value for key, value in schema.items() if key in _KEPT}
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    for key in ("anyOf", "allOf", "oneOf"):
        if key in schema:
            closed[key] = [_closed(part) for part in schema[key]]
    more = schema.get("additionalProperties")
    if "properties" in schema:
        closed["properties"] = {key: _closed(value) for key, value in schema["properties"].items()}
        if more is None:
            more = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if more is not None:
        closed["additionalProperties"] = _closed(more) if isinstance(more, dict) else more
    if schema.get("nullable") and "type" in closed:
        closed["type"] = [closed["type"], "null"]
    return closed


def _admitted(schema: Schema, value: Any, path: str) -> Iterator[str]:
    """Drop nulls and fill in defaults, then evaluate the rules; rules about an earlier state are for updates."""
    if isinstance(value, dict):
        named, more = schema.get("properties", {}), schema.get("additionalProperties")
        for key, part in named.items():
            if key in value and value[key] is None and not part.get("nullable"):
                del value[key]
            if "default" in part:
                value.setdefault(key, part["default"])
        for key, inner in value.items():
            part = named.get(key) or more
            if isinstance(part, dict):
                yield from _admitted(part, inner, f"{path}/{key}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _admitted(schema.get("items", {}), inner, f"{path}/{position}")
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{path}: {rule.get('message', rule['rule'])}"


def _holds(rule: str, value: Any) -> bool:
    from cel import evaluate

    return evaluate(rule, {"self": value}) is True
