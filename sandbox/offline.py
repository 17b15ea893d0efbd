"""Scores a file of records through a pool."""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sandbox import registry
from sandbox.errors import BadRecordError
from sandbox.pool import Pool
from sandbox.verdict import Status, Submission, Verdict

# Records handed to the pool at a time, for each of its workers: enough to keep them busy, few enough to hold in memory.
_CHUNK_PER_WORKER = 32
_CHUNK_BYTES = 64 * 1024 * 1024
_DIGITS_AT_ONCE = 4000
_ID_BITS = 4096
_OWN_FIELDS = frozenset({"id", "verifier", "response", "prompt", "truncated", "length", "reference"})
# Files that mix verifiers often give these to every record, also to those whose verifier has no use for them.
_COMMON_KEYS = frozenset({"raw", "language"})
_PYTHON = frozenset({"python", "python3"})


@dataclass(frozen=True, slots=True)
class ScoredLine:
    """One line's result.

    Attributes:
        line: number of the line in the file, from 1.
        record: what to write, or None if the line was no record.
        problem: what was wrong with the line, or "".
        retryable: the machine is at fault, and not the line.
    """

    line: int
    record: dict[str, Any] | None
    problem: str
    retryable: bool = False


def submission_of(record: Any) -> Submission:
    """The submission of one record: `reference`, or else every field that is not one of the submission's own.

    Raises:
        BadRecordError: the record lacks a field, has one of the wrong type, or one that its verifier does not know.
    """
    if not isinstance(record, dict):
        raise BadRecordError("a record is a JSON object")
    for name in ("verifier", "response"):
        if name not in record:
            raise BadRecordError(f'"{name}" is missing{_meant(name, record)}')
        if not isinstance(record[name], str):
            raise BadRecordError(f'"{name}" must be text')
    if not _can_be_written_again(record.get("id")):
        raise BadRecordError('"id" must be text or a number of reasonable length')
    reference = record.get("reference", {key: value for key, value in record.items() if key not in _OWN_FIELDS})
    prompt, truncated, length = record.get("prompt", ""), record.get("truncated", False), record.get("length", 0)
    if not isinstance(reference, dict) or not isinstance(prompt, str):
        raise BadRecordError('"reference" must be an object and "prompt" text')
    if not isinstance(truncated, bool) or isinstance(length, bool) or not isinstance(length, int):
        raise BadRecordError('"truncated" must be true or false and "length" a whole number')
    if length < 0:
        raise BadRecordError(f'{record["verifier"]}: "length" must not be negative')
    _check_fields(record, reference)
    return Submission(record["verifier"], record["response"], reference, prompt, truncated, length)


def _check_fields(record: dict[str, Any], reference: dict[str, Any]) -> None:
    """Refuse what would be ignored. A field that is null counts as absent: exported tables have such columns.

    Raises:
        BadRecordError: the verifier does not know a field, or a field stands where it is not read.
    """
    name = record["verifier"]
    keys = registry.lookup(name).reference_keys if name in registry.verifier_names() else None
    if keys is None:
        return
    beside = {field for field, value in record.items() if value is not None} - _OWN_FIELDS
    inside = {field for field, value in reference.items() if value is not None}
    known = keys | _COMMON_KEYS
    for fields, candidates in ((beside, known | _OWN_FIELDS), (inside, known)):
        for field in sorted(fields - known):
            near = difflib.get_close_matches(field, sorted(candidates), n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(sorted(keys))}"
            raise BadRecordError(f"{name}: there is no field {_quoted(field)}; {hint}")
    if "reference" in record and (ignored := sorted(beside & keys)):
        raise BadRecordError(f'{name}: "reference" and "{ignored[0]}" are both given; move "{ignored[0]}" into it')
    for language in (record.get("language"), reference.get("language")):
        if language is not None and not (isinstance(language, str) and language.lower() in _PYTHON):
            raise BadRecordError(f'{name}: "language" must be "python": no other is run here')


def _meant(name: str, record: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, record.keys() - _OWN_FIELDS, n=1)
    return f"; did you mean it by {_quoted(near[0])}?" if near else ""


def _quoted(field: str) -> str:
    return f"{json.dumps(field):.80}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different.

    Raises:
        BadRecordError: a key occurs twice.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        owner = f"{made['verifier']}: " if isinstance(made.get("verifier"), str) else ""
        raise BadRecordError(f"{owner}the field {_quoted(twice)} occurs twice")
    return made


def score_lines(
    lines: Iterable[str | bytes], pool: Pool, record_seconds: float, advance: Callable[[int], None] = lambda _: None
) -> Iterator[ScoredLine]:
    """Results in input order; blank lines are skipped, bad ones reported.

    Args:
        lines: one JSON record each, text or UTF-8.
        pool: where to score.
        record_seconds: time a record may take with a worker to itself, seconds.
        advance: told how many lines have been dealt with.
    """
    chunk: list[tuple[int, str | bytes]] = []
    held, size = 0, _CHUNK_PER_WORKER * pool.config.workers
    for number, line in enumerate(lines, 1):
        if line.strip():
            chunk.append((number, line))
            held += len(line)
        if len(chunk) >= size or held > _CHUNK_BYTES:
            yield from _score_chunk(chunk, pool, record_seconds)
            advance(number)
            chunk, held = [], 0
    yield from _score_chunk(chunk, pool, record_seconds)
    if chunk:
        advance(chunk[-1][0])


def _score_chunk(chunk: list[tuple[int, str | bytes]], pool: Pool, record_seconds: float) -> Iterator[ScoredLine]:
    read: list[tuple[int, Any, Submission | str]] = []
    for number, line in chunk:
        try:
            record = json.loads(_text(line), parse_int=_integer, object_pairs_hook=_object)
            read.append((number, record, submission_of(record)))
        except UnicodeDecodeError as error:
            read.append((number, None, f"not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}"))
        except RecursionError:
            read.append((number, None, "nested too deeply"))
        except json.JSONDecodeError as error:
            read.append((number, None, f"not JSON: {error.msg} (character {error.pos + 1})"))
        except ValueError as error:
            read.append((number, None, str(error)))
    good = [submission for _, _, submission in read if isinstance(submission, Submission)]
    seconds = record_seconds * max(1, math.ceil(len(good) / pool.config.workers))
    verdicts = iter(pool.score(good, seconds))
    for number, record, submission in read:
        if isinstance(submission, str):
            yield ScoredLine(number, None, submission)
        else:
            yield _scored(number, record, next(verdicts))


def _text(line: str | bytes) -> str:
    # Some editors begin a file with a byte order mark.
    return line.removeprefix(b"\xef\xbb\xbf").decode("utf-8") if isinstance(line, bytes) else line


def _integer(digits: str) -> int:
    """An integer of any length, in less than quadratic time; `int` alone refuses more than 4300 digits."""
    if len(digits) <= _DIGITS_AT_ONCE:
        return int(digits)
    if digits[0] == "-":
        return -_integer(digits[1:])
    middle = len(digits) // 2
    shift: int = 10 ** (len(digits) - middle)
    return _integer(digits[:middle]) * shift + _integer(digits[middle:])


def _can_be_written_again(own_id: Any) -> bool:
    match own_id:
        case int():
            return own_id.bit_length() <= _ID_BITS
        case float():
            return math.isfinite(own_id)
        case _:
            return isinstance(own_id, str | None)


def _scored(number: int, record: dict[str, Any], verdict: Verdict) -> ScoredLine:
    out = {
        "line": number,
        "id": record.get("id"),
        "status": verdict.status.value,
        "reward": verdict.reward,
        "parts": verdict.parts,
        "seconds": round(verdict.seconds, 6),
    }
    if verdict.unsafe:
        out["unsafe"] = True
    problem = verdict.detail if verdict.status is Status.INFRA_ERROR else ""
    return ScoredLine(number, out, problem, verdict.retryable)
