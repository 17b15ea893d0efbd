"""Parquet files beside JSON lines: the same tasks, traces and pairs, and what is said of files that are bad."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from actors.cli import app, execute
from actors.config.stages import CurationConfig
from actors.config.tasks import JsonlSource, TasksConfig
from actors.curation import PROVENANCE, curate
from actors.errors import RecipeError
from actors.tasks import Task, TaskStream, file_traces
from actors.tasks.pairs import read_pairs
from actors.tasks.parquet import columns
from actors.tasks.records import read_records
from actors.tasks.sources import open_source

LINES: list[dict[str, Any]] = [
    {"prompt": "1+1=", "answer": 2, "verifier": "exact"},
    {"prompt": "12 in words", "answer": "twelve", "verifier": "exact"},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "answer": 0.5},
    {"prompt": "echo", "verifier": "stdio", "tests": [{"stdin": "1\n", "stdout": "1\n"}], "time_limit_seconds": 2.5},
]
TASKS = [
    LINES[0] | {"answer": "2"},
    LINES[1],
    LINES[2] | {"answer": "0.5"},
    LINES[3],
]


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file as other programs write it: a column that only some rows have is null in the others."""
    names = dict.fromkeys(name for row in rows for name in row)
    pyarrow.parquet.write_table(pyarrow.table({name: [row.get(name) for row in rows] for name in names}), path)
    return path


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tasks_in(path: Path) -> list[Task]:
    opened = open_source(JsonlSource(source="jsonl", path=path))
    return [opened[number] for number in range(len(opened))]


def test_rows_are_the_same_tasks_as_lines(tmp_path: Path) -> None:
    rows = tasks_in(parquet(tmp_path / "tasks.parquet", TASKS))
    assert rows == tasks_in(lines(tmp_path / "tasks.jsonl", LINES))
    assert rows[3].reference["time_limit_seconds"] == 2.5


def test_numbers_are_as_json_writes_them(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{answer}", "answer": answer} for answer in (3, -(2**60))]
    assert [task.reference["answer"] for task in tasks_in(parquet(tmp_path / "a.parquet", rows))] == [
        "3",
        "-1152921504606846976",
    ]
    rows = [{"prompt": "p", "answer": 0.1}, {"prompt": "q", "answer": float("nan")}]
    with pytest.raises(RecipeError, match=r"b\.parquet, row 2: the key `answer` is missing"):
        tasks_in(parquet(tmp_path / "b.parquet", rows))


def test_traces_and_pairs_come_in_rows_too(tmp_path: Path) -> None:
    stream = TaskStream(
        TasksConfig(
            sources=[JsonlSource(source="jsonl", path=lines(tmp_path / "t.jsonl", TASKS[:2]))],
            held_out=1,
            development=0,
        ),
        0,
    )
    (trace,) = file_traces(parquet(tmp_path / "traces.parquet", [{"prompt": "p", "response": "r"}]), stream)
    assert (trace[0].messages, trace[1]) == ((("user", "p"),), "r")
    (pair,) = read_pairs(parquet(tmp_path / "pairs.parquet", [{"prompt": "p", "chosen": "a", "rejected": "b"}]))
    assert (pair.chosen, pair.rejected) == ("a", "b")


def test_what_is_curated_is_the_same_in_both_forms(tmp_path: Path) -> None:
    row = {
        "task": "t",
        "number": 3,
        "source": "sums",
        "verifier": "exact",
        "messages": [{"role": "user", "content": "1+1="}],
        "status": "ok",
        "reward": 1.1,
        "parts": {"accuracy": 1.0, "format": 1.0},
        "answer": None,
        "tokens": 7,
        "version_min": 4,
        "version_max": 5,
        "run": "r",
        "seed": 0,
        "model": "abc",
        "truncated": False,
    }
    drawn = [row | {"sample": number, "response": f"{number}\u2028\ud800"} for number in range(5)]
    del drawn[4]["answer"]
    lines(tmp_path / "drawn.jsonl", drawn)
    config = CurationConfig(max_per_task=None)
    for name in ("curated.jsonl", "curated.parquet"):
        curate(tmp_path / "drawn.jsonl", tmp_path / name, config, 1)
    found = [[dict(row) for _, row in read_records(tmp_path / f"curated.{form}")] for form in ("parquet", "jsonl")]
    assert len(found[0]) == 5
    for of_row, of_line in zip(*found, strict=True):
        number = of_row["parts"], float(of_row.pop("reward"))
        assert ({name: float(value) for name, value in number[0].items()}, number[1]) == (row["parts"], 1.1)
        kept = {name: value for name, value in of_line.items() if value is not None and name not in ("reward", "parts")}
        assert {name: value for name, value in of_row.items() if name != "parts"} == kept
    schema = pyarrow.parquet.read_schema(tmp_path / "curated.parquet")
    assert sorted(schema.names) == sorted(columns()) == sorted(["messages", "response", *PROVENANCE])


def damaged(path: Path) -> None:
    parquet(path, TASKS)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])


BAD: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.write_text('{"prompt": "p", "answer": "a"}\n'), "let the name of a file of JSON lines end in"),
    (lambda path: path.write_bytes(b""), "cannot be read as a Parquet file"),
    (lambda path: path.mkdir(), "is no file"),
    (damaged, "cannot be read as a Parquet file"),
    (lambda path: parquet(path, [{"question": "p"}]), "row 1: give either `prompt` or `messages`"),
]


@pytest.mark.parametrize(("make", "says"), BAD)
def test_a_bad_file_is_one_line_and_exit_code_2(
    make: Callable[[Path], object],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / "tasks.parquet")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        json.dumps(
            {
                "name": "r",
                "steps": 1,
                "model": {"kind": "tiny"},
                "tasks": {
                    "sources": [{"source": "jsonl", "path": str(tmp_path / "tasks.parquet")}],
                    "template": "raw",
                    "held_out": 1,
                    "max_prompt_tokens": 64,
                },
            }
        )
    )
    monkeypatch.setattr(sys, "argv", ["leeway", "check", str(recipe)])
    assert execute(app, "leeway") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "tasks.parquet" in said and says in said


def test_a_damaged_page_is_found_while_it_is_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", [{"prompt": f"{n}" * 200, "answer": f"{n}"} for n in range(400)])
    content = bytearray(path.read_bytes())
    content[8:200] = b"\xff" * 192
    path.write_bytes(content)
    with pytest.raises(RecipeError, match="cannot be read as a Parquet file"):
        list(read_records(path))


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "t.parquet", TASKS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RecipeError, match=r"install leeway-rl with its extra `cpu` or `cuda`, or use JSON lines"):
        list(read_records(path))
