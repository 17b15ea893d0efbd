"""What a recipe reaches outside its fleet: which pods may connect to it, and which of them have whose credentials.

    a model, data or a mirror by URI    everybody but verifiers, by the URI's port; Secret leeway-storage, which
                                        base/cluster.yaml names
    preferences.judge                   verifiers alone; Secret leeway-judge

A verifier runs what a model wrote, so it has neither a way to the storage nor its credentials.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from actors.config.base import Section
from actors.config.judge import JudgeConfig
from actors.config.recipe import Recipe
from actors.storage.uris import is_uri

#: Of an address that names none; object stores are asked by HTTPS.
HTTP, HTTPS = 80, 443
#: Protocols of what is on the machine itself.
HERE = ("file", "local", "memory")
#: Who fetches inputs, and sends checkpoints to a mirror.
FETCHING = ("head", "generator", "learner", "scorer")
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
JUDGE_SECRET, JUDGE_KEY = "leeway-judge", "key"
Document = dict[str, Any]


def policies(recipe: Recipe) -> list[Document]:
    """The NetworkPolicies that a recipe needs beside those of an overlay."""
    found = []
    if ports := sorted({_port(uri) for uri in _uris(recipe)}):
        found.append(_policy("storage", FETCHING, {"ports": [{"port": port} for port in ports]}))
    if (judge := recipe.judge) is not None:
        found.append(_policy("judge", ("verifier",), _to(judge.url)))
    return found


def judge_key(judge: JudgeConfig) -> list[Document]:
    """The variables of a verifier's container that hold the judge's key."""
    if judge.api_key_env is None:
        return []
    source = {"secretKeyRef": {"name": JUDGE_SECRET, "key": JUDGE_KEY, "optional": True}}
    return [{"name": judge.api_key_env, "valueFrom": source}]


def _uris(section: Section) -> Iterator[str]:
    """Every location of a recipe that is fetched, or sent to, over a network."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, JudgeConfig):
                continue  # a service, and no location
            if isinstance(each, Section):
                yield from _uris(each)
            elif isinstance(each, str) and is_uri(each) and urlsplit(each).scheme.lower() not in HERE:
                yield each


def _port(uri: str) -> int:
    found = urlsplit(uri)
    if found.scheme not in ("http", "https"):
        return HTTPS
    return found.port or (HTTP if found.scheme == "http" else HTTPS)


def _policy(name: str, components: tuple[str, ...], rule: Document) -> Document:
    whom = {"key": COMPONENT, "operator": "In", "values": list(components)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": {NAME: "leeway", "app.kubernetes.io/part-of": "leeway"}},
        "spec": {
            "podSelector": {"matchLabels": {NAME: "leeway"}, "matchExpressions": [whom]},
            "policyTypes": ["Egress"],
            "egress": [rule],
        },
    }


def _to(url: str) -> Document:
    """The rule that lets through what goes to a URL.

    A policy sees the pods behind a Service, and their ports instead of its own. So a Service of the cluster is opened
    by its namespace with all ports, but never the pods of a fleet; and what is outside of the cluster, whose addresses
    are not known here, by its port.
    """
    host = urlsplit(url).hostname or ""
    ports = [{"port": _port(url)}]
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return {"to": [{"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}], "ports": ports}
    others = {"podSelector": {"matchExpressions": [{"key": NAME, "operator": "NotIn", "values": ["leeway"]}]}}
    service, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    if not rest:
        return {"to": [others]}
    if service and (domain == "svc" or domain.startswith("svc.")):
        return {"to": [others | {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]}
    return {"ports": ports}
