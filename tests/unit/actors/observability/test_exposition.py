"""What a process shows over HTTP: its own metrics, to whoever may see them."""

import ast
import re
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import Gauge
from prometheus_client.parser import text_string_to_metric_families

from actors.membership import ROLES
from actors.observability import exposition, metrics
from actors.observability.exposition import EVERY, OF_ROLE, Exports, serve
from sandbox.gate import Token
from tests.sources import ROOT, files

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
#: Which roles run a file that sets a metric; the first that matches counts.
PROCESSES = {
    "actors/control/": {"controller"},
    "actors/replay/": {"replay"},
    "actors/roles/replay.py": {"replay"},
    "actors/roles/generator.py": {"generator"},
    "actors/roles/groups.py": {"generator"},
    "actors/engines/": {"generator"},
    "actors/weights/subscriber.py": {"generator"},
    "actors/roles/verifier/": {"verifier"},
    "actors/roles/scorer/": {"scorer"},
    "sandbox/": {"verifier"},
    "actors/roles/learner/": {"learner"},
    "actors/weights/participants.py": {"learner"},
    "actors/weights/publisher.py": {"learner"},
    "actors/fleet/learner.py": {"learner"},
}


def shown(*roles: str) -> Exports:
    exports = Exports()
    for role in roles:
        exports.own(role)
    return exports


def names(exports: Exports) -> set[str]:
    return {family.name for family in exports.collect() if family.name.startswith("leeway")}


def test_a_process_shows_what_its_role_owns_and_nothing_of_the_others() -> None:
    every = names(shown())
    assert {"leeway_busy_seconds", "leeway_wait_seconds", "leeway_connections_refused", "leeway_build"} <= every
    own = {role: names(shown(role)) - every for role in ROLES}
    assert [role for role in ROLES if "leeway_ledger_conserved" in own[role]] == ["replay"]
    assert [role for role in ROLES if "leeway_sandbox_verdicts" in own[role]] == ["verifier"]
    shared = {name for role in ROLES for other in ROLES if role < other for name in own[role] & own[other]}
    assert shared == {"leeway_weight_messages_malformed"}, "either end of the weights counts its own"


def test_a_process_of_several_roles_shows_them_all_and_each_metric_once() -> None:
    text, _ = shown("generator", "learner").text("")
    found = [family.name for family in text_string_to_metric_families(text.decode())]
    assert len(found) == len(set(found))
    assert {"leeway_completions", "leeway_step_seconds", "leeway_weight_messages_malformed"} <= set(found)
    assert "leeway_groups" not in found


def test_a_metric_is_set_by_the_processes_that_show_it() -> None:
    owners: dict[int, set[str]] = {}
    for role, registries in OF_ROLE.items():
        for registry in registries:
            for collector in registry._collector_to_names:
                owners.setdefault(id(collector), set()).add(role)
    setters: dict[str, set[str]] = {}
    for path in (p for package in ("actors", "sandbox") for p in files(package, "*.py")):
        place = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "metrics" and node.attr.isupper():
                process = next((p for start, p in PROCESSES.items() if place.startswith(start)), set(ROLES))
                if not place.startswith("sandbox/"):
                    setters.setdefault(node.attr, set()).update(process)
    for name, found in setters.items():
        metric = getattr(metrics, name)
        if hasattr(metric, "collect") and metric not in EVERY._collector_to_names:
            assert owners[id(metric)] == found, name


def test_counters_with_known_labels_begin_at_zero() -> None:
    metrics.begin("controller")
    metrics.begin("verifier")
    text = shown("controller", "verifier").text("")[0].decode()
    for series in (
        'leeway_restarts_total{role="generator"}',
        'leeway_verdicts_total{status="infra_error"}',
        'leeway_connections_refused_total{reason="too many"}',
        'leeway_busy_seconds_total{role="verifier"}',
        "leeway_build_info{",
    ):
        assert series in text


def test_who_asks_for_openmetrics_sees_the_group_that_was_slow() -> None:
    metrics.QUEUE_AGE.observe(2.0, metrics.exemplar(4711))
    exports = shown("replay")
    text, content_type = exports.text(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert re.search(rb'^leeway_queue_age_seconds_bucket{le="2.5"} .* # {group_id="4711"} 2.0', text, re.MULTILINE)
    assert b'group_id="4711"' not in exports.text("text/plain")[0]


def test_names_of_others_keep_their_colons_whatever_is_asked_for() -> None:
    exports = Exports()
    gauge = Gauge("vllm:test_requests", "As vLLM names its own", registry=EVERY)
    try:
        for accept in ("text/plain", OPENMETRICS, f"{OPENMETRICS};escaping=underscores,text/plain;q=0.5"):
            text, content_type = exports.text(accept)
            assert content_type.startswith(accept.partition(";")[0])
            assert "\nvllm:test_requests 0.0\n" in text.decode()
    finally:
        EVERY.unregister(gauge)


def test_they_are_shown_to_everybody_or_to_whoever_has_the_token() -> None:
    for admits, expected in ((lambda _: True, [200, 200]), (Token("s3cret").matches, [401, 200])):
        server = serve("127.0.0.1", 0, admits)
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        found = []
        for headers in ({}, {"Authorization": "Bearer s3cret"}):
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
                    assert b"leeway_busy_seconds" in response.read()
                    found.append(response.status)
            except urllib.error.HTTPError as error:
                assert b"leeway" not in error.read()
                found.append(error.code)
        assert found == expected
        server.shutdown()


@pytest.mark.parametrize("header", [b"", b"Bearer ", b"Bearer s3cre", b"bearer s3cret", b"Basic s3cret", b"\xff"])
def test_only_the_whole_token_matches(header: bytes) -> None:
    assert not Token("s3cret").matches(header)


@pytest.mark.parametrize("asked", [b"", b"GET /metrics HT"])
def test_whoever_connects_and_falls_silent_is_hung_up_on(
    asked: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exposition, "SILENT_SECONDS", 0.1)
    server = serve("127.0.0.1", 0)
    try:
        with socket.create_connection(("127.0.0.1", server.server_port), 30) as silent:
            silent.sendall(asked)
            assert silent.recv(1) == b""
    finally:
        server.shutdown()
        server.server_close()
    assert capfd.readouterr().err == ""
