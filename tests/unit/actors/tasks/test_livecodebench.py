"""LiveCodeBench's problems, from a small file in the form in which that set is published."""

import base64
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.tasks import Task, livecodebench
from actors.tasks.sources import open_source
from sandbox import Pool, RewardConfig, SandboxConfig, Submission

LIVE = Path(__file__).parent / "samples" / "livecodebench.jsonl"
SUM = "input()\nprint(sum(map(int, input().split())))"
TWICE = (
    "class Solution:\n    def twice(self, nums: List[int], shift: int) -> List[int]:\n"
    "        return [2 * n + shift for n in nums]"
)


def tasks_in(path: Path) -> list[Task]:
    source = {"source": "livecodebench", "path": str(path)}
    opened = open_source(TasksConfig.model_validate({"sources": [source]}).sources[0])
    return [opened[index] for index in range(len(opened))]


def test_public_and_packed_tests_are_the_reference() -> None:
    reading, calling = tasks_in(LIVE)
    assert (reading.verifier, calling.verifier) == ("stdio", "function")
    assert [test["stdout"] for test in reading.reference["tests"]] == ["6\n", "-5\n", "30\n"]
    assert calling.reference["tests"] == [[[[1, 2], 0], [2, 4]], [[[], 7], []], [[[3], -1], [5]]]
    assert calling.reference["entry"] == "twice"
    assert "def twice(self, nums: List[int], shift: int)" in calling.messages[0][1]


@pytest.mark.parametrize(
    ("number", "program", "reward"),
    [(0, SUM, 1.0), (0, "print(6)", 0.0), (1, TWICE, 1.0), (1, TWICE.replace("+ shift", ""), 0.0)],
)
def test_programs_are_judged_by_all_tests(number: int, program: str, reward: float) -> None:
    task = tasks_in(LIVE)[number]
    response = f"I think so.\n```python\n{program}\n```"
    submission = Submission(task.verifier, response, task.reference, prompt=task.messages[0][1])
    with Pool(SandboxConfig(workers=1), RewardConfig()) as pool:
        (verdict,) = pool.score([submission], 120)
    assert verdict.reward == reward, verdict


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("/tmp/a-pickle-was-run",)


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


CASE = {"input": "1", "output": "1", "testtype": "stdin"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"private_test_cases": packed(pickle.dumps(Evil()))}, "holds more than a text .* which is not run"),
    ({"private_test_cases": packed(pickle.dumps(["a", "b"]))}, "holds more than a text"),
    ({"private_test_cases": packed(b"no pickle")}, "`private_test_cases` cannot be unpacked|holds more than a text"),
    ({"private_test_cases": packed(pickle.dumps("[]"))[:-8]}, "cannot be unpacked|is cut off"),
    ({"private_test_cases": "!"}, "cannot be unpacked"),
    ({"private_test_cases": packed(pickle.dumps("{"))}, "is no JSON"),
    ({"public_test_cases": '[{"input": "1"}]'}, "must be a list of objects with input, output, testtype"),
    ({"public_test_cases": "[]"}, "there is no test"),
    ({"public_test_cases": json.dumps([CASE, CASE | {"testtype": "functional"}])}, "all stdin or all functional"),
    ({"public_test_cases": json.dumps([CASE | {"testtype": "functional"}])}, "names no `func_name`"),
    ({"question_content": ""}, "`question_content` must be a text"),
]


@pytest.mark.parametrize(("changes", "says"), BAD)
def test_a_bad_line_is_named_and_no_pickle_is_run(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    line = {"question_content": "q", "public_test_cases": json.dumps([CASE]), "metadata": "{}", **changes}
    path = tmp_path / "live.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(RecipeError, match=rf"live\.jsonl, line 1: .*({says})"):
        tasks_in(path)
    assert not Path("/tmp/a-pickle-was-run").exists()


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livecodebench, "MOST_BYTES", 1000)
    record = {"question_content": "q", "private_test_cases": packed(pickle.dumps("[" + " " * 5000 + "]"))}
    with pytest.raises(RecipeError, match="unpacks to more than 1,000 bytes"):
        livecodebench.problem(record, "f, line 1")
