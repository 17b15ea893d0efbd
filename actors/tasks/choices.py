"""Questions with four choices, as GPQA is published: a CSV file, or its rows as JSON lines or Parquet."""

import csv
import hashlib
from collections.abc import Iterator

from actors.config.base import Location
from actors.config.tasks import GpqaSource
from actors.errors import RecipeError
from actors.storage.inputs import local
from actors.tasks.records import Record, read_records, text_field
from actors.tasks.references import verifiable
from actors.tasks.task import Messages, Task, with_instruction

#: The columns of a question.
QUESTION, CORRECT = "Question", "Correct Answer"
INCORRECT = tuple(f"Incorrect Answer {number}" for number in (1, 2, 3))
_LETTERS = "ABCD"


def gpqa_tasks(config: GpqaSource, instruction: str) -> Iterator[Task]:
    """The questions of a file, each with its choices in an order that depends on their texts alone.

    Raises:
        RecipeError: for a file or a row that cannot be read.
    """
    records = read_csv(config.path) if local(config.path).suffix.lower() == ".csv" else read_records(config.path)
    for place, record in records:
        question = text_field(record, QUESTION, place).strip()
        choices = [text_field(record, column, place).strip() for column in (CORRECT, *INCORRECT)]
        order = sorted(range(len(choices)), key=lambda index: _rank(question, choices[index], index))
        listed = "\n".join(f"{letter}) {choices[index]}" for letter, index in zip(_LETTERS, order, strict=True))
        asked: Messages = (("user", f"{question}\n\n{listed}\n\nAnswer with the letter of the one right choice."),)
        reference = {"answer": _LETTERS[order.index(0)]}
        yield verifiable(place, with_instruction(asked, instruction), config.verifier, reference, asked)


def _rank(question: str, choice: str, index: int) -> tuple[bytes, int]:
    """Which place a choice has: a fair draw, but the same in every run."""
    return hashlib.blake2b(f"{question}\0{choice}".encode(), digest_size=16).digest(), index


def read_csv(path: Location) -> Iterator[tuple[str, Record]]:
    """(place, row) of every row of a CSV file with a header; the place reads "file, row 3".

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        with local(path).open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, strict=True), 1):
                yield f"{path}, row {number}", {key: value for key, value in row.items() if key and value is not None}
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); correct `path` in the recipe") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: is no CSV file in UTF-8 ({error})") from error
