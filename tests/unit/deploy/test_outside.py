"""Who of a fleet may reach what is outside of it, and with whose credentials."""

import shutil
from typing import Any

import pytest

from deploy.check import faults
from deploy.render import FOLDER, kustomized, overlays, rendered
from tests.unit.deploy.test_manifests import named, recipe

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds the overlays")

STORED = ("storage.mirror=s3://bucket/runs", "model={kind: folder, path: 'https://models.example:8443/a'}")


def judged(url: str, **more: str) -> tuple[str, ...]:
    keys = "".join(f", {key}: {value}" for key, value in more.items())
    judge = f"preferences.judge={{url: '{url}', model: m{keys}}}"
    return judge, "tasks.sources.0.preferences=true", "learner.objective.name=grpo"


def policies(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "NetworkPolicy"}


def containers(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The container of each group that a cluster has."""
    spec = named(found, "RayCluster")["spec"]
    groups = {"head": spec["headGroupSpec"]} | {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    return {name: group["template"]["spec"]["containers"][0] for name, group in groups.items()}


def test_what_needs_nothing_outside_opens_nothing() -> None:
    assert not {"storage", "judge"} & policies(rendered("cpu-smoke", recipe())).keys()
    inside = rendered("cpu-smoke", recipe("storage.mirror=file:///runs/mirror"))
    assert "storage" not in policies(inside)


def test_whoever_fetches_reaches_the_storages_ports_and_a_verifier_does_not() -> None:
    spec = policies(rendered("cpu-smoke", recipe(*STORED)))["storage"]
    assert spec["egress"] == [{"ports": [{"port": 443}, {"port": 8443}]}]
    (whom,) = spec["podSelector"]["matchExpressions"]
    assert whom["values"] == ["head", "generator", "learner", "scorer"]


def test_everybody_but_verifiers_has_the_storages_credentials_where_there_are_some() -> None:
    found = containers(rendered("cpu-smoke", recipe("preferences.reward_model=/runs/reward", *STORED)))
    source = {"secretRef": {"name": "leeway-storage", "optional": True}}
    assert {name for name, each in found.items() if each.get("envFrom") == [source]} == found.keys() - {"verifier"}
    assert "envFrom" not in found["verifier"]
    (elsewhere,) = named(kustomized(FOLDER / "joining"), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert elsewhere["envFrom"] == [source]


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://api.example/v1", {"ports": [{"port": 443}]}),
        ("http://api.example:8000/v1", {"ports": [{"port": 8000}]}),
        ("http://10.1.2.3:8000/v1", {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 8000}]}),
    ],
)
def test_verifiers_reach_a_judge_outside_of_the_cluster(url: str, rule: dict[str, Any]) -> None:
    spec = policies(rendered("cpu-smoke", recipe(*judged(url))))["judge"]
    assert spec["egress"] == [rule]
    assert spec["podSelector"]["matchExpressions"][0]["values"] == ["verifier"]


@pytest.mark.parametrize(("url", "namespace"), [("http://judge.serving.svc:80/v1", "serving"), ("http://judge/v1", "")])
def test_verifiers_reach_the_pods_of_a_judge_in_the_cluster_and_no_more_of_the_fleet(url: str, namespace: str) -> None:
    """By whatever port: a policy sees those of the pods, and a recipe has that of the Service."""
    ((rule,),) = (policies(rendered("cpu-smoke", recipe(*judged(url))))["judge"]["egress"],)
    (peer,) = rule["to"]
    assert "ports" not in rule
    assert peer["podSelector"]["matchExpressions"] == [
        {"key": "app.kubernetes.io/name", "operator": "NotIn", "values": ["leeway"]}
    ]
    assert peer.get("namespaceSelector", {"matchLabels": {}})["matchLabels"] == (
        {"kubernetes.io/metadata.name": namespace} if namespace else {}
    )


def test_a_judges_key_is_verifiers_alone_and_from_a_secret() -> None:
    found = containers(rendered("cpu-smoke", recipe(*judged("https://api.example/v1", api_key_env="JUDGE_KEY"))))
    having = {name: [e for e in each["env"] if e["name"] == "JUDGE_KEY"] for name, each in found.items()}
    source = {"secretKeyRef": {"name": "leeway-judge", "key": "key", "optional": True}}
    assert having.pop("verifier") == [{"name": "JUDGE_KEY", "valueFrom": source}]
    assert not any(having.values())


@pytest.mark.parametrize("overlay", overlays())
def test_nothing_would_refuse_it(overlay: str) -> None:
    assert (
        list(faults(rendered(overlay, recipe(*judged("http://judge.serving.svc/v1", api_key_env="K"), *STORED)))) == []
    )


def test_a_pod_is_given_the_time_that_its_processes_may_take() -> None:
    asked = recipe(
        "preferences.reward_model=/runs/reward",
        "generators.drain_seconds=40",
        "verifiers.deadline_seconds=50",
        "replay.verify_lease_seconds=90",
    )
    spec = named(rendered("cpu-smoke", asked), "RayCluster")["spec"]
    given = {g["groupName"]: g["template"]["spec"]["terminationGracePeriodSeconds"] for g in spec["workerGroupSpecs"]}
    assert {name: given[name] for name in ("generator", "verifier", "scorer")} == {
        "generator": 45,
        "verifier": 55,
        "scorer": 55,
    }
