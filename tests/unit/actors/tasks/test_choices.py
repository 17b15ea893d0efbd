"""GPQA's questions, from a small file in the form in which that set is published."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.tasks import Task, TaskStream
from actors.tasks.sources import open_source
from sandbox import Pool, RewardConfig, SandboxConfig, Submission

GPQA = Path(__file__).parent / "samples" / "gpqa_diamond.csv"


def tasks_in(path: Path, **options: str) -> list[Task]:
    source = {"source": "gpqa", "path": str(path), **options}
    opened = open_source(TasksConfig.model_validate({"sources": [source]}).sources[0])
    return [opened[index] for index in range(len(opened))]


def choices(task: Task) -> dict[str, str]:
    """The choices of a prompt by their letters."""
    lines = task.messages[0][1].splitlines()
    return {line[0]: line[3:] for line in lines if line[:2] in ("A)", "B)", "C)", "D)")}


def test_each_question_has_its_four_choices_and_the_letter_of_the_right_one() -> None:
    tasks = tasks_in(GPQA)
    asked = [choices(task) for task in tasks]
    assert [set(each.values()) for each in asked] == [
        {"7", "8", "9", "10"},
        {"20 m", "10 m", "40 m", "5 m"},
        {"OH-, hydroxide", "H3O+", "O2", "H2"},
    ]
    right = [each[task.reference["answer"]] for each, task in zip(asked, tasks, strict=True)]
    assert right == ["7", "20 m", "OH-, hydroxide"]
    assert tasks[0].messages[0][1].startswith('Which of these numbers, written\nin base ten, is "prime"?\n\nA) ')
    assert tasks[0].messages[0][1].endswith("Put your final answer within \\boxed{}.")
    assert tasks == tasks_in(GPQA), "the order is the same in every run"


def test_the_right_choice_is_as_often_at_each_letter(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Question", "Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3))])
        writer.writerows([f"q{n}", "right", "a", "b", "c"] for n in range(2000))
    counts = Counter(task.reference["answer"] for task in tasks_in(path))
    assert set(counts) == set("ABCD") and all(420 < count < 580 for count in counts.values())


def test_an_answer_is_judged_by_its_letter() -> None:
    task = tasks_in(GPQA)[1]
    right = str(task.reference["answer"])
    wrong = next(letter for letter in "ABCD" if letter != right)
    given = {right: 1.0, rf"\text{{({right})}}": 1.0, wrong: 0.0, "20 m": 0.0}
    with Pool(SandboxConfig(workers=1), RewardConfig()) as pool:
        submissions = [Submission(task.verifier, rf"So \boxed{{{text}}}.", task.reference) for text in given]
        assert [verdict.reward for verdict in pool.score(submissions, 60)] == list(given.values())


def test_the_same_rows_are_read_as_json_lines(tmp_path: Path) -> None:
    with GPQA.open(newline="") as file:
        rows = list(csv.DictReader(file))
    path = tmp_path / "gpqa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert tasks_in(path) == tasks_in(GPQA)
    all_held_out = {"sources": [{"source": "gpqa", "path": str(path)}], "held_out": "all", "development": 0}
    assert len(TaskStream(TasksConfig.model_validate(all_held_out), 0).held_out) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Question,Correct Answer\nq,a\n", "row 1: the key `Incorrect Answer 1` is missing"),
        (b'Question,Correct Answer\n"q,a\n', "is no CSV file in UTF-8"),
        ("Question\n\u00e9\n".encode("latin-1"), "is no CSV file in UTF-8"),
        (b"", "holds no task"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=says):
        tasks_in(path)
