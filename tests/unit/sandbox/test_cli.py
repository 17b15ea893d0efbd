"""`score` and `serve` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from sandbox.cli import app

RECORDS = [
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
    assert set(scored[0]) == {"id", "status", "reward", "parts", "seconds"}


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
    assert [json.loads(line)["status"] for line in out.read_text().splitlines()] == ["ok", "ok"]


def test_a_bad_configuration_is_one_line_that_names_the_key(tmp_path: Path) -> None:
    file, config = _write(tmp_path / "in.jsonl", []), tmp_path / "config.yaml"
    config.write_text("sandbox:\n  workerz: 3\n")
    ended = CliRunner().invoke(app, ["score", str(file), "-c", str(config)])
    assert ended.exit_code == 2
    assert "sandbox.workerz" in ended.output


def test_serve_refuses_the_world_without_a_token() -> None:
    ended = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0"], env={"LEEWAY_SANDBOX_TOKEN": ""})
    assert ended.exit_code == 2
    assert "LEEWAY_SANDBOX_TOKEN" in ended.output
