"""Lines of JSONL files and rows of Parquet files, checked one by one; every error names the file and the line."""

import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from actors.config.base import Location
from actors.errors import RecipeError
from actors.storage.inputs import local
from actors.tasks.parquet import is_parquet, read_rows
from actors.tasks.task import Messages

Record = Mapping[str, Any]
_ROLES = ("system", "user", "assistant")
# How alike two names must be (0 to 1) for one to be taken for the other misspelt: `verfier`, not `rate`.
_ALIKE = 0.75
#: How files that are no lines of text begin, and what to do with them.
_OTHER_FORMS = {
    b"\x1f\x8b": "compressed with gzip; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it",
    b"PAR1": "a Parquet file; let its name end in .parquet",
    b"PK\x03\x04": "a ZIP archive; unpack it",
    b"\xff\xfe": "UTF-16; convert it to UTF-8",
    b"\xfe\xff": "UTF-16; convert it to UTF-8",
}
# A number with separators of thousands, perhaps with a sign, a currency or a percent sign.
_THOUSANDS = re.compile(r"[-+]?[$€£]?[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?\s*%?", re.ASCII)


class WrittenNumber(str):
    """A number as it is written in a file of JSON."""

    __slots__ = ()


def read_records(path: Location, key: str = "path") -> Iterator[tuple[str, Record]]:
    """(place, object) of every line of a JSONL file that is not blank, or of every row of a Parquet file, whose name
    ends in `.parquet`; the place reads "file, line 3" or "file, row 3". `key` is the recipe's key.

    Numbers of JSON are the text that stands in the file: 0.10 is not 0.1, and no digit of a long one is lost.

    Raises:
        RecipeError: for a file that cannot be read and for a line that is no JSON object or has a key twice.
    """
    if is_parquet(file := local(path)):
        yield from ((place, _written(row)) for place, row in read_rows(path, file, key))
        return
    yield from _lines(path, file, key)


def _written(value: Any) -> Any:
    """A value of a row as `value_of` and `text_field` expect it: numbers as they would stand in a line."""
    match value:
        case dict():
            return {key: _written(item) for key, item in value.items()}
        case list():
            return [_written(item) for item in value]
        case bool():
            return value
        case int() | float():
            return WrittenNumber(json.dumps(value))
    return value


def _lines(path: Location, file: Path, key: str) -> Iterator[tuple[str, Record]]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); correct `{key}` in the recipe") from error
    for beginning, advice in _OTHER_FORMS.items():
        if content.startswith(beginning):
            raise RecipeError(f"{path}: is {advice}")
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        place = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            record = json.loads(
                text, parse_int=WrittenNumber, parse_float=WrittenNumber, object_pairs_hook=partial(_object, place)
            )
        except UnicodeDecodeError as error:
            raise RecipeError(f"{place}: not UTF-8 ({error.reason}); convert the file") from error
        except RecursionError as error:
            raise RecipeError(f"{place}: nested too deeply; each line must hold one JSON object") from error
        except ValueError as error:
            raise RecipeError(f"{place}: not JSON ({error}); each line must hold one JSON object") from error
        if not isinstance(record, dict):
            raise RecipeError(f"{place}: {_kind(record)}, but each line must hold one JSON object")
        yield place, record


def _object(place: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise RecipeError(f"{place}: the key {_short(twice)} occurs twice; keep one")
    return made


def require_spelling(record: Record, known: Collection[str], place: str) -> None:
    """Refuse a key that is likely to mean one of `known` that is absent; other unknown keys are the user's own.

    Raises:
        RecipeError: for a key that is nearly a known one.
    """
    absent = [key for key in known if key not in record]
    for key, value in record.items():
        # `verified: true` is a column of many data sets, and no known key holds a truth value
        if key in known or isinstance(value, bool):
            continue
        if close := difflib.get_close_matches(key, absent, n=1, cutoff=_ALIKE):
            raise RecipeError(f"{place}: there is no key `{key}`; did you mean `{close[0]}`?")


def text_field(record: Record, key: str, place: str) -> str:
    """The text under a key, as it is. A number counts as text: answers are often written as numbers.

    Nothing else does: a list might be one answer or several, and what is true might be asked as "yes".

    Raises:
        RecipeError: if there is none.
    """
    if key not in record:
        raise RecipeError(f"{place}: the key `{key}` is missing; there are {_names(record)}")
    value = _number_as_text(record[key])
    if not isinstance(value, str) or not value.strip():
        raise RecipeError(f"{place}: `{key}` must be a text that is not empty, not {_short(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RecipeError(f"{place}: `{key}` holds half of a surrogate pair, which is no text; repair it") from error
    return value


def value_of(value: Any, place: str) -> Any:
    """What a value of a file means to a program: its numbers are numbers.

    Raises:
        RecipeError: for a number of thousands of digits.
    """
    match value:
        case WrittenNumber():
            try:
                return json.loads(value)
            except ValueError as error:
                raise RecipeError(f"{place}: a number of {len(value)} digits is more than Python reads") from error
        case dict():
            return {key: value_of(part, place) for key, part in value.items()}
        case list():
            return [value_of(part, place) for part in value]
        case _:
            return value


def _number_as_text(value: Any) -> Any:
    """A finite number of a table's column, numpy's too, as text; those of JSON are text already. All else as it is."""
    number = isinstance(value, Real | Decimal) and not isinstance(value, bool)
    return str(value) if number and math.isfinite(value) else value


def messages_of(record: Record, place: str, single: bool = False) -> Messages:
    """The messages under `messages`, or one user message from `prompt`; `single` where the template takes no more.

    Raises:
        RecipeError: if there is neither, or both, or one is out of form.
    """
    if ("prompt" in record) == ("messages" in record):
        raise RecipeError(f"{place}: give either `prompt` or `messages`; there are {_names(record)}")
    if "prompt" in record:
        return (("user", text_field(record, "prompt", place)),)
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise RecipeError(f"{place}: `messages` must be a list of objects with `role` and `content`")
    pairs = []
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise RecipeError(f"{place}: each of `messages` needs `role` and `content` alone, not {_short(message)}")
        if message["role"] not in _ROLES:
            raise RecipeError(f"{place}: a role must be one of {', '.join(_ROLES)}, not {_short(message['role'])}")
        pairs.append((message["role"], text_field(message, "content", place)))
    if pairs[-1][0] != "user":
        raise RecipeError(f"{place}: the last of `messages` must be the user's, since the model speaks next")
    if single and len(pairs) > 1:
        raise RecipeError(f"{place}: `messages` has {len(pairs)} of them, which needs `tasks.template: chat`")
    return tuple(pairs)


def final_answer(text: str) -> str:
    """What follows the last `####` (GSM8K's mark for the result); else the text.

    A single number there loses its separators of thousands. Other commas mean something: `(1,2)` is no number.
    """
    _, mark, result = text.rpartition("####")
    result = result.strip()
    return result.replace(",", "") if mark and _THOUSANDS.fullmatch(result) else result


def _kind(value: object) -> str:
    """What a line holds, in JSON's words."""
    names = {list: "a list", str: "text", WrittenNumber: "a number", bool: "true or false", type(None): "null"}
    return names.get(type(value), "no object")


def _names(record: Record) -> str:
    return ", ".join(f"`{key}`" for key in list(record)[:8]) or "no keys"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
