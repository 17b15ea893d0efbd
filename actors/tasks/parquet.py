"""Rows of Parquet files, read and written beside JSON lines: a file whose name ends in `.parquet` is one.

pyarrow reads them. It comes with what training needs, and not with the sandbox alone.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from actors.config.base import Location
from actors.errors import RecipeError

SUFFIX = ".parquet"
#: Rows in memory at a time.
_ROWS = 1024
#: Columns of a file of examples, in their order, and pyarrow's names of their types.
_COLUMNS: Mapping[str, str] = {
    "response": "string",
    "task": "string",
    "number": "int64",
    "sample": "int64",
    "source": "string",
    "verifier": "string",
    "status": "string",
    "reward": "float64",
    "answer": "string",
    "tokens": "int64",
    "version_min": "int64",
    "version_max": "int64",
    "run": "string",
    "seed": "int64",
    "model": "string",
}


def is_parquet(path: Path) -> bool:
    """Whether a file is one, by its name."""
    return path.suffix.lower() == SUFFIX


def read_rows(path: Location, file: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of every row; the place reads "file, row 3", counted from 1. What is null is left out, in structures
    too: a column cannot be absent from one row alone.

    Args:
        path: as the recipe names it, for messages.
        file: on this machine.
        key: the recipe's key.

    Raises:
        RecipeError: for a file that is none, is damaged or cannot be read, and where pyarrow is not installed.
    """
    with _read(path, key) as pyarrow:
        parquet = pyarrow.parquet.ParquetFile(file)
        number = 0
        for batch in parquet.iter_batches(batch_size=_ROWS):
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                number += 1
                yield f"{path}, row {number}", _without_nulls(row)


def write_examples(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write examples: `messages`, `response`, and where they are from.

    Raises:
        RecipeError: pyarrow is not installed.
        OSError: it cannot be written.
    """
    pyarrow = _pyarrow(str(path))
    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    types = {name: pyarrow.type_for_alias(of) for name, of in _COLUMNS.items()}
    types |= {"messages": pyarrow.list_(message), "parts": pyarrow.map_(pyarrow.string(), pyarrow.float64())}
    schema = pyarrow.schema([("messages", types.pop("messages")), *types.items()])
    remaining = iter(rows)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(remaining, _ROWS)):
            writer.write_table(pyarrow.Table.from_pylist([_encodable(row) for row in batch], schema))


def columns() -> list[str]:
    """The names of the columns that `write_examples` writes."""
    return ["messages", "parts", *_COLUMNS]


@contextmanager
def _read(path: Location, key: str) -> Iterator[ModuleType]:
    """pyarrow, whose complaints about a file become one line."""
    pyarrow = _pyarrow(str(path))
    try:
        yield pyarrow
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"{path}: cannot be read as a Parquet file ({reason}); correct `{key}`, or let the name of a file of JSON "
            "lines end in .jsonl"
        ) from error


def _pyarrow(path: str) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise RecipeError(
            f"{path}: Parquet files need pyarrow: install leeway-rl with its extra `cpu` or `cuda`, or use JSON lines"
        ) from error
    return pyarrow  # type: ignore[no-any-return]


def _without_nulls(value: Any) -> Any:
    match value:
        case dict():
            found = {key: _without_nulls(item) for key, item in value.items()}
            return {key: item for key, item in found.items() if item is not None}
        case list():
            return [_without_nulls(item) for item in value]
        case float() if math.isnan(value):
            return None  # how tables of numbers say that there is none
    return value


def _encodable(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a model wrote may hold half of a surrogate pair, which no Parquet file takes."""
    return {key: _repaired(value) for key, value in row.items()}


def _repaired(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {_repaired(key): _repaired(item) for key, item in value.items()}
        case list():
            return [_repaired(item) for item in value]
    return value
