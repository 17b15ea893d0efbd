"""The HTTP protocol: what clients of SandboxFusion rely on, and what a hostile client gets."""

from __future__ import annotations

import base64
import json
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
    """What does not end is ended by its CPU time, which a busy machine does not spend."""
    with Pool(SandboxConfig(workers=1, test_seconds=60.0, cpu_seconds=2.0), RewardConfig()) as made:
        yield made


class _HeldPool:
    """A pool whose programs do not begin before they are let go."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.reached, self.goes_on = threading.Event(), threading.Event()

    def runner(self, deadline_seconds: float) -> Any:
        self.reached.set()
        assert self.goes_on.wait(60)
        return self._pool.runner(deadline_seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


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
    for language in ("cpp", "bash", "pytest"):
        refused = _run(client, code="int main(){}", language=language)
        assert (refused["status"], refused["run_result"], refused["files"]) == ("SandboxError", None, {})
        assert language in refused["message"]
    assert client.post("/run_code", json={"code": "1", "language": "klingon"}).status_code == 422
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


def test_a_busy_server_says_so_and_recovers(pool: Pool) -> None:
    held: Any = _HeldPool(pool)
    with TestClient(make_app(held, max_concurrent=1)) as busy, ThreadPoolExecutor(1) as threads:
        accepted = threads.submit(busy.post, "/run_code", json={"code": "print(1)"})
        assert held.reached.wait(60)
        refused = busy.post("/run_code", json={"code": "print(1)"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert busy.get("/v1/ping").json() == "pong"
        held.goes_on.set()
        assert accepted.result(60).json()["status"] == "Success"
        assert busy.post("/run_code", json={"code": "print(1)"}).json()["status"] == "Success"


def test_metrics_count_what_was_asked(client: TestClient) -> None:
    def count() -> float:
        text = client.get("/metrics").text
        name = 'leeway_sandbox_verdicts_total{status="ok",verifier="exact"}'
        return float(next(line for line in text.splitlines() if line.startswith(name)).split()[-1])

    before = count()
    submission = {"verifier": "exact", "response": "<answer>4</answer>", "reference": {"answer": "4"}}
    assert client.post("/verify", json={"submissions": [submission] * 3}).status_code == 200
    assert count() == before + 3


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_input_files_are_in_the_programs_directory(client: TestClient) -> None:
    code = """
import os
print(open("a.txt").read(), open("sub/b.bin", "rb").read(), sorted(os.listdir()), os.path.exists("none"))
"""
    files = {"a.txt": _base64(b"one"), "sub/b.bin": _base64(b"\0\xff"), "none": None}
    body = _run(client, code=code, language="python", files=files)
    assert body["status"] == "Success", body
    assert body["run_result"]["stdout"] == "one b'\\x00\\xff' ['a.txt', 'sub'] False\n"


def _can_write(client: TestClient) -> bool:
    body = _run(client, code="open('x', 'w').close()", language="python", fetch_files=["x"])
    if body["status"] == "SandboxError":
        assert "mount namespace" in body["message"]
    return str(body["status"]) == "Success"


def test_files_are_fetched_whether_the_program_succeeds_or_not(client: TestClient) -> None:
    if not _can_write(client):
        pytest.skip("mount namespaces are not allowed here")
    code = """
import os
os.makedirs("out/deep")
open("out/deep/x.txt", "w").write("made")
open("given.txt", "a").write("+")
os.rename("given.txt", "moved.txt")
open("gone", "w").close(); os.remove("gone")
raise SystemExit(3)
"""
    fetch = ["out/deep/x.txt", "moved.txt", "given.txt", "gone", "out", "/scratch/moved.txt"]
    body = _run(client, code=code, language="python", files={"given.txt": _base64(b"old")}, fetch_files=fetch)
    assert (body["status"], body["run_result"]["return_code"]) == ("Failed", 3)
    found = {"out/deep/x.txt": b"made", "moved.txt": b"old+", "/scratch/moved.txt": b"old+"}
    assert {name: base64.b64decode(content) for name, content in body["files"].items()} == found
    late = _run(client, code="open('x', 'w').write('y')\nwhile True: pass", run_timeout=0.5, fetch_files=["x"])
    assert (late["run_result"]["status"], late["files"]) == ("TimeLimitExceeded", {"x": _base64(b"y")})


def test_a_directory_is_limited_and_gone_with_its_run(client: TestClient) -> None:
    if not _can_write(client):
        pytest.skip("mount namespaces are not allowed here")
    fill = """
total = 0
try:
    for number in range(100_000):
        with open(f"f{number}", "wb", buffering=0) as file:
            total += file.write(bytes(1 << 20))
except OSError as error:
    print(error.errno, total)
"""
    number, total = _run(client, code=fill, language="python", fetch_files=["x"])["run_result"]["stdout"].split()
    assert int(number) in (27, 28)
    assert int(total) <= SandboxConfig().files_bytes
    assert _run(client, code="import os\nprint(os.listdir())", fetch_files=["f0"])["run_result"]["stdout"] == "[]\n"
    elsewhere = "import os\nfor path in ('/x', '/tmp/x', '/dev/shm/x', '../x'):\n    try:\n        open(path, 'w')\n"
    elsewhere += "        print(path)\n    except OSError:\n        pass"
    assert _run(client, code=elsewhere, fetch_files=["x"])["run_result"]["stdout"] == ""
    special = "import os\nfor make in (os.mkfifo, lambda p: os.symlink('/etc/passwd', p), lambda p: os.link('a', p)):\n"
    special += "    try:\n        make('p')\n        print('made')\n    except OSError:\n        pass"
    body = _run(client, code=special, files={"a": _base64(b"a")}, fetch_files=["p", "../p"[1:]])
    assert body["status"] == "SandboxError" or (body["run_result"]["stdout"], body["files"]) == ("", {})


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ({"files": {"../a": "eA=="}}, "not a path within"),
        ({"files": {"/etc/a": "eA=="}}, "not a path within"),
        ({"files": {"": "eA=="}}, "not a path within"),
        ({"files": {"a\0": "eA=="}}, "not a path within"),
        ({"files": {"a": "eA=="}, "fetch_files": ["../../etc/passwd"]}, "not a path within"),
        ({"files": {"a": "e"}}, "not base64"),
        ({"files": {"a": "eA==", "a/b": "eA=="}}, "cannot be made"),
        ({"files": {f"f{number}": "" for number in range(300)}}, "at most 256"),
    ],
)
def test_bad_files_are_a_sandbox_error_with_the_reason(client: TestClient, field: dict[str, Any], reason: str) -> None:
    body = _run(client, code="print(1)", language="python", **field)
    assert body["status"] == "SandboxError"
    assert reason in body["message"]


def test_files_leave_nothing_behind(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _run(client, code="print(1)", files={"a": "eA=="})
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        _run(client, code="while True: pass", files={"a": "eA=="}, run_timeout=0.2)
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


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


def test_files_that_were_sent_can_be_imported(client: TestClient) -> None:
    files = {
        "helper.py": _base64(b"def twice(x):\n    return 2 * x\n"),
        "package/__init__.py": _base64(b"from .inner import value\n"),
        "package/inner.py": _base64(b"value = 5\n"),
    }
    code = "import helper\nfrom package import value\nfrom package.inner import value as same\n"
    code += "print(helper.twice(value), value is same)"
    body = _run(client, code=code, files=files)
    assert (body["status"], body["run_result"]["stdout"]) == ("Success", "10 True\n"), body
    assert _run(client, code="import helper")["status"] == "Failed"


def test_a_program_may_write_beside_its_files(client: TestClient) -> None:
    if not _can_write(client):
        pytest.skip("mount namespaces are not allowed here")
    code = "open('made.py', 'w').write('x = 7')\nimport made, given\nprint(made.x + given.x)"
    body = _run(client, code=code, files={"given.py": _base64(b"x = 1")})
    assert body["run_result"]["stdout"] == "8\n", body


@pytest.mark.parametrize("files", [{}, {"helper.py": "ZGVmIGdvKCk6CiAgICByYWlzZSBLZXlFcnJvcignaycpCg=="}])
def test_tracebacks_show_the_program_and_nothing_of_the_server(client: TestClient, files: dict[str, str]) -> None:
    code = "import json\ndef inner(x):\n    return json.loads(x)\ndef outer():\n    inner('{')\nouter()\n"
    shown = _run(client, code=code, files=files)["run_result"]["stderr"]
    for line in ('File "program.py", line 6, in <module>', 'File "program.py", line 3, in inner', "json.loads(x)"):
        assert line in shown
    assert "JSONDecodeError: Expecting" in shown
    chained = "try:\n    open('/none')\nexcept OSError as e:\n    raise ValueError('so') from e"
    chained = _run(client, code=chained, files=files)["run_result"]["stderr"]
    assert "direct cause" in chained and "ValueError: so" in chained
    imported = _run(client, code="import helper\nhelper.go()", files=files)["run_result"]["stderr"]
    assert ('File "helper.py", line 2, in go' in imported) == bool(files)
    deep = _run(client, code="def f(n): return f(n + 1)\nf(0)", files=files)["run_result"]["stderr"]
    assert "RecursionError" in deep and "repeated" in deep
    here = str(Path(__file__).parents[3])
    for text in (shown, chained, imported, deep):
        assert not any(path in text for path in (here, "jail", "harness", json.__file__, "/tmp", "/scratch"))


def test_limits_that_are_lowered_are_named_and_are_not_the_programs_fault(client: TestClient) -> None:
    fast = _run(client, code="print(1)", run_timeout=60, memory_limit_MB=64_000)
    assert fast["status"] == "Success"
    assert "run_timeout was lowered from 60 to 2 seconds" in fast["message"]
    assert "memory_limit_MB was lowered from 64000 to 512" in fast["message"]
    assert _run(client, code="print(1)", run_timeout=1, memory_limit_MB=100)["message"] == ""
    slow = _run(client, code="while True: pass", run_timeout=60)
    assert (slow["status"], slow["run_result"]) == ("SandboxError", None)
    assert "lowered from 60 to 2" in slow["message"]
    large = _run(client, code="x = bytearray(900 << 20)", memory_limit_MB=2048)
    assert (large["status"], large["run_result"]) == ("SandboxError", None)
    assert "lowered from 2048 to 512" in large["message"]
    own = _run(client, code="x = bytearray(900 << 20)", memory_limit_MB=64)
    assert (own["status"], own["run_result"]["return_code"]) == ("Failed", 1)


def test_event_loops_run(client: TestClient) -> None:
    code = "import asyncio\nasync def main():\n    await asyncio.sleep(0.01)\n    print('done')\nasyncio.run(main())"
    assert _run(client, code=code)["run_result"]["stdout"] == "done\n"
    assert _run(client, code=code, files={"a": "eA=="})["run_result"]["stdout"] == "done\n"
