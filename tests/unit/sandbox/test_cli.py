"""`score` and `serve` as a user types them."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.deadline import until
from sandbox.cli import app, score
from sandbox.programs import self_test

RECORDS: list[dict[str, Any]] = [
    {"id": "a", "verifier": "exact", "response": "<answer>4</answer>", "answer": "4"},
    {"id": "b", "verifier": "stdio", "response": "print(input())", "raw": True,
     "tests": [{"stdin": "x", "stdout": "x"}]},
    {"id": "c", "verifier": "function", "response": "```python\ndef f(x):\n    return -x\n```", "entry": "f",
     "tests": [[[1], 1]]},
    {"id": "d", "verifier": "assert", "prompt": "def f(x):\n", "response": "    return x + 1\n", "raw": True,
     "entry": "f", "test": "def check(candidate):\n    assert candidate(1) == 2\n"},
    {"id": "e", "verifier": "math", "response": r"\boxed{\frac12}", "answer": "0.5"},
]  # fmt: skip


def _write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_score_writes_a_verdict_a_record_in_order(tmp_path: Path) -> None:
    file, out = _write(tmp_path / "in.jsonl", [json.dumps(record) for record in RECORDS]), tmp_path / "out.jsonl"
    ended = CliRunner().invoke(app, ["score", str(file), "-o", str(out)])
    assert ended.exit_code == 0, ended.output
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(record["id"], record["status"]) for record in scored] == [
        ("a", "ok"),
        ("b", "ok"),
        ("c", "wrong"),
        ("d", "ok"),
        ("e", "ok"),
    ]
    assert [record["line"] for record in scored] == [1, 2, 3, 4, 5]
    assert set(scored[0]) == {"line", "id", "status", "reward", "parts", "seconds"}


def test_bad_records_are_named_and_the_good_ones_scored(tmp_path: Path) -> None:
    lines = [
        json.dumps(RECORDS[0]),
        "{not json",
        "[1]",
        json.dumps({"id": "x", "verifier": "exact"}),
        json.dumps(RECORDS[0]),
    ]
    file, out = _write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    ended = CliRunner().invoke(app, ["score", str(file), "-o", str(out)])
    assert ended.exit_code == 2
    assert [f"in.jsonl:{number}:" in ended.output for number in range(1, 6)] == [False, True, True, True, False]
    assert "in.jsonl:2: not JSON: Expecting property name" in ended.output
    assert ended.output.splitlines()[-1] == "leeway: 3 of 5 records are wrong"
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(record["line"], record["status"]) for record in written] == [(1, "ok"), (5, "ok")]


def test_an_answer_may_be_infinite(tmp_path: Path) -> None:
    record = {"verifier": "function", "entry": "f", "tests": [[[1], float("inf")]]}
    answers = [f"```python\ndef f(x):\n    return {value}\n```" for value in ("float('inf')", "-float('inf')", "1e308")]
    file = _write(tmp_path / "in.jsonl", [json.dumps(record | {"response": answer}) for answer in answers])
    ended = CliRunner().invoke(app, ["score", str(file), "-o", str(tmp_path / "out.jsonl")])
    assert ended.exit_code == 0, ended.output
    written = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in written] == ["ok", "wrong", "wrong"]


@pytest.mark.parametrize("command", ["score", "serve"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"sandbox:\n  workerz: 3\n", "sandbox.workerz"),
        (b"sandbox:\n  workers: 1\n  workers: 2\n", "occurs twice"),
        (b"sandbox: [1\n", "expected"),
        (b"rewards: {language: tlh}\n", "'tlh' is not supported"),
        (b"caf\xe9: 1\n", "not UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_bad_configuration_is_one_line_and_exit_code_2(
    tmp_path: Path, command: str, content: bytes | None, reason: str
) -> None:
    file, config = _write(tmp_path / "in.jsonl", []), tmp_path / "config.yaml"
    if content is not None:
        config.write_bytes(content)
    arguments = [str(file)] if command == "score" else ["--port", "0"]
    assert reason in _refused([command, *arguments, "-c", str(config)])


def _refused(arguments: list[str], code: int = 2, **environment: str) -> str:
    """The one line that a command ends with."""
    ended = CliRunner().invoke(app, arguments, env={"LEEWAY_SANDBOX_TOKEN": "", **environment})
    assert ended.exit_code == code, ended.output
    [line] = ended.output.splitlines()
    return line


def test_a_file_that_cannot_be_read_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    assert "No such file" in _refused(["score", str(tmp_path / "missing.jsonl")])
    assert "Is a directory" in _refused(["score", str(tmp_path)])


def test_a_machine_that_cannot_score_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "_PROGRAM", 'print(\'{"leaked": ["fork"]}\')')
    file = _write(tmp_path / "in.jsonl", [json.dumps(RECORDS[1])])
    line = _refused(["score", str(file), "-o", str(tmp_path / "out")], code=1)
    assert "in.jsonl:1: stdio: a locked-down program could fork" in line


def test_a_full_disk_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    file = _write(tmp_path / "in.jsonl", [json.dumps(RECORDS[0])])
    assert "No space left" in _refused(["score", str(file), "-o", "/dev/full"], code=1)


def test_a_pipe_can_be_scored() -> None:
    command = [sys.executable, "-m", "sandbox.cli", "score", "/dev/stdin"]
    ended = subprocess.run(command, input=json.dumps(RECORDS[0]), capture_output=True, text=True, timeout=60)
    assert (json.loads(ended.stdout)["status"], ended.stderr, ended.returncode) == ("ok", "", 0)


def test_an_address_that_cannot_be_served_is_one_line_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = _refused(["serve", "--port", str(taken.getsockname()[1])])
    assert "in use" in line
    assert "cannot be resolved" in _refused(["serve", "--host", "no.such.host.invalid"])


def test_a_token_that_no_client_can_send_is_refused_and_not_shown() -> None:
    line = _refused(["serve"], LEEWAY_SANDBOX_TOKEN="se cret")
    assert "LEEWAY_SANDBOX_TOKEN" in line
    assert "cret" not in line


def test_score_of_the_whole_command_line_is_the_same_command() -> None:
    from actors import cli

    assert {command.callback for command in cli.app.registered_commands if command.name == "score"} == {score}


def test_serve_refuses_the_world_without_a_token() -> None:
    assert "LEEWAY_SANDBOX_TOKEN" in _refused(["serve", "--host", "0.0.0.0"])


def test_bytes_that_are_no_text_cost_only_their_own_record(tmp_path: Path) -> None:
    good = json.dumps(RECORDS[0]).encode()
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    half = json.dumps({**RECORDS[0], "id": "\ud800"}).encode()
    lines = [b"\xef\xbb\xbf" + good, b'{"id": "caf\xe9"}', b"\xff\x00", half, b'{"id": NaN}', b"[" * 100_000, b"", good]
    lines.append(b'{"id": ' + b"9" * 5000 + good[good.index(b",") :])
    lines.append(b'{"verifier": "\\ud800", "response": ""}')
    file.write_bytes(b"\r\n".join(lines))
    ended = CliRunner().invoke(app, ["score", str(file), "-o", str(out)])
    assert ended.exit_code == 2
    assert [f"in.jsonl:{number}:" in ended.output for number in range(1, 11)] == [
        False, True, True, False, True, True, False, False, True, True
    ]  # fmt: skip
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["a", "\ud800", "a", None]


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_a_file_without_records_is_one_line_and_exit_code_2(tmp_path: Path, lines: list[str]) -> None:
    file = _write(tmp_path / "in.jsonl", lines)
    assert f"{file}: holds no record" in _refused(["score", str(file)])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verifier": "maths"}, "in.jsonl:1: maths: no verifier is called 'maths'; known are "),
        ({"verifier": "a\nb"}, "in.jsonl:1: a b: no verifier is called"),
        ({"answer": None}, 'in.jsonl:1: exact: the reference needs an "answer" (text or number)\n'),
        (
            {"answer": 1, "langauge": "rust"},
            'in.jsonl:1: exact: there is no field "langauge"; did',
        ),
    ],
)
def test_what_is_wrong_with_a_record_is_one_line(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    file = _write(tmp_path / "in.jsonl", [json.dumps(RECORDS[0] | change)])
    ended = CliRunner().invoke(app, ["score", str(file), "-o", str(tmp_path / "out.jsonl")])
    assert ended.exit_code == 2
    assert reason in ended.stderr
    assert "Error" not in ended.stderr
    assert ended.stderr.splitlines()[1:] == ["leeway: 1 of 1 record is wrong"]


@pytest.mark.parametrize("where", ["missing/out.jsonl", ".", "in.jsonl"])
def test_an_output_that_cannot_be_written_is_one_line_and_costs_no_input(tmp_path: Path, where: str) -> None:
    file = _write(tmp_path / "in.jsonl", [json.dumps(RECORDS[0])])
    before = file.read_text()
    ended = CliRunner().invoke(app, ["score", str(file), "-o", str(tmp_path / where)])
    assert ended.exit_code == 2
    assert str(tmp_path / where) in ended.output
    assert len(ended.output.splitlines()) == 1
    assert file.read_text() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.jsonl"]


def test_a_reference_without_tests_is_named_and_has_no_reward(tmp_path: Path) -> None:
    lines = [json.dumps({"id": "x", "verifier": "stdio", "response": "```\n1\n```"}), json.dumps(RECORDS[0])]
    file, out = _write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    ended = CliRunner().invoke(app, ["score", str(file), "-o", str(out)])
    assert ended.exit_code == 2
    assert 'in.jsonl:1: stdio: the reference needs "tests"' in ended.output
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(record["status"], record["reward"]) for record in scored] == [("infra_error", None), ("ok", 1.0)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_at_once_and_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    record = {"verifier": "stdio", "tests": [{"stdin": "", "stdout": ""}]}
    lines = [json.dumps({**record, "response": f"```\nwhile True: {n}\n```"}) for n in range(100)]
    file = _write(tmp_path / "in.jsonl", lines)
    command = [sys.executable, "-m", "sandbox.cli", "score", str(file), "-o", str(tmp_path / "out.jsonl"), "-w", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:

        def programs() -> bool:
            assert process.poll() is None
            return any(map(_children, _children(process.pid)))

        assert until(programs, 60)
        servers = _children(process.pid)
        process.send_signal(number)
        assert "interrupted: 0 records scored" in process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in servers), 60)


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found.update(map(int, listing.read_text().split()))
    return found


def test_serve_names_the_isolation_layers_and_shuts_down_gracefully() -> None:
    command = [sys.executable, "-m", "sandbox.cli", "serve", "--port", "0", "-w", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        said = ""
        while "http://127.0.0.1:" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        url = re.findall(r"http://127\.0\.0\.1:\d+", said)[-1]
        with urllib.request.urlopen(f"{url}/v1/ping", timeout=60) as answer:
            assert json.load(answer) == "pong"
        body = json.dumps({"code": "print(6 * 7)", "language": "python"}).encode()
        request = urllib.request.Request(f"{url}/run_code", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["run_result"]["stdout"] == "42\n"
        children = _children(process.pid)
        process.send_signal(signal.SIGINT)
        said += process.communicate(timeout=60)[1]
    assert "isolation of programs: " in said
    assert "fetch_files" in said
    assert "Traceback" not in said
    assert process.returncode in (0, 130)
    assert children
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 30)
