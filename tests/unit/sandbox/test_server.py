"""The HTTP protocol: what clients of SandboxFusion rely on, and what a hostile client gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import Pool, RewardConfig, SandboxConfig
from sandbox.server import make_app

TOKEN = "a-token-for-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(SandboxConfig(workers=1, test_seconds=2.0), RewardConfig()) as made:
        yield made


@pytest.fixture(scope="module")
def client(pool: Pool) -> Iterator[TestClient]:
    with TestClient(make_app(pool, token=TOKEN, max_body_bytes=100_000), headers=HEADERS) as made:
        yield made


def _run(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/run_code", json=body)
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()
    return result


def test_run_code_speaks_sandbox_fusion(client: TestClient) -> None:
    body = _run(client, code="print(int(input()) * 2)", language="python", stdin="21", run_timeout=5)
    assert body["status"] == "Success"
    assert body["run_result"]["status"] == "Finished"
    assert (body["run_result"]["return_code"], body["run_result"]["stdout"]) == (0, "42\n")
    assert body["run_result"]["execution_time"] > 0
    assert set(body) == {"status", "message", "compile_result", "run_result", "executor_pod_name", "files"}


def test_run_code_reports_failures_as_sandbox_fusion_does(client: TestClient) -> None:
    failed = _run(client, code="raise ValueError('no')", language="python")
    assert failed["status"] == "Failed"
    assert failed["run_result"]["return_code"] == 1
    assert "ValueError: no" in failed["run_result"]["stderr"]
    late = _run(client, code="while True: pass", language="python", run_timeout=0.5)
    assert (late["status"], late["run_result"]["status"]) == ("Failed", "TimeLimitExceeded")
    assert _run(client, code="int main(){}", language="cpp")["status"] == "SandboxError"
    assert _run(client, code="1", language="python", files={"a": "eA=="})["status"] == "SandboxError"
    memory = _run(client, code="a = bytearray(64 << 20)", language="python", memory_limit_MB=32)
    assert "MemoryError" in memory["run_result"]["stderr"] + memory["message"]


def test_verify_gives_verdicts_in_order(client: TestClient) -> None:
    submissions = [
        {"verifier": "exact", "response": "<answer>4</answer>", "reference": {"answer": "4"}},
        {"verifier": "function", "response": "```python\ndef f(x):\n    return x\n```",
         "reference": {"entry": "f", "tests": [[[1], 2]]}},
        {"verifier": "unheard of", "response": "", "reference": {}},
    ]  # fmt: skip
    verdicts = client.post("/verify", json={"submissions": submissions}).json()["verdicts"]
    assert [(verdict["status"], verdict["reward"]) for verdict in verdicts] == [
        ("ok", 1.0),
        ("wrong", 0.0),
        ("infra_error", None),
    ]


def test_a_token_is_needed_everywhere_but_for_health(client: TestClient) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        assert client.post("/run_code", json={"code": "1"}, headers=headers).status_code == 401
        assert client.get("/metrics", headers=headers).status_code == 401
        assert client.get("/v1/ping", headers=headers).json() == "pong"
    assert "leeway_sandbox_verdicts_total" in client.get("/metrics").text


def test_bodies_are_limited_whether_they_declare_their_length_or_not(client: TestClient) -> None:
    assert client.post("/run_code", content=b"x" * 200_000).status_code == 413
    assert client.post("/run_code", content=iter([b"x" * 60_000] * 4)).status_code == 413


def test_a_busy_server_says_so(pool: Pool) -> None:
    app = make_app(pool, max_concurrent=1)
    with TestClient(app) as busy:
        assert busy.post("/run_code", json={"code": "print(1)"}).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/run_code", "/verify"]), body=JSON | st.binary(max_size=200))
def test_no_body_breaks_the_server(client: TestClient, path: str, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert client.post(path, content=content).status_code in (200, 422, 400)


REFERENCES = st.dictionaries(
    st.sampled_from(
        ["answer", "tests", "entry", "test", "dataset", "tolerance", "raw", "checker", "time_limit_seconds"]
    ),
    JSON,
    max_size=4,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    verifier=st.sampled_from(["exact", "numeric", "stdio", "function", "assert"]),
    response=st.sampled_from(["<answer>1</answer>", "```python\ndef f(*a): return a\n```", "```\n\0```", "\ud800"]),
    reference=REFERENCES,
)
def test_no_reference_breaks_a_verifier(client: TestClient, verifier: str, response: str, reference: Any) -> None:
    body = {"submissions": [{"verifier": verifier, "response": response, "reference": reference}]}
    answer = client.post("/verify", content=json.dumps(body).encode())
    assert answer.status_code in (200, 422)
