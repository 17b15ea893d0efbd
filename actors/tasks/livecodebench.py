"""LiveCodeBench's problems as they are published: a line a problem, whose hidden tests are packed.

Packed tests are JSON within a pickle of one text, compressed, in base64. A pickle is a program; none is run here: the
text is taken out of its instructions, and any other instruction is refused.
"""

import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Mapping
from typing import Any

from actors.errors import RecipeError
from actors.tasks.records import Record, text_field

#: A test of theirs may take so long (s).
SECONDS = 6
#: Unpacked tests of one problem (bytes): more is refused rather than held.
MOST_BYTES = 1 << 29
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_HARMLESS = _TEXTS | {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}

Problem = tuple[str, str, Mapping[str, Any]]


def problem(record: Record, place: str) -> Problem:
    """Prompt, verifier and reference of a line.

    Raises:
        RecipeError: it is no problem of LiveCodeBench, or its tests cannot be read.
    """
    asked = text_field(record, "question_content", place)
    cases = [
        case
        for key in ("public_test_cases", "private_test_cases")
        for case in _cases(record.get(key, "[]"), f"{place}: `{key}`")
    ]
    if not cases:
        raise RecipeError(f"{place}: there is no test in `public_test_cases` and `private_test_cases`")
    start = str(record.get("starter_code") or "").rstrip()
    kinds = {case["testtype"] for case in cases}
    if kinds == {"stdin"}:
        tests = [{"stdin": case["input"], "stdout": case["output"]} for case in cases]
        told = "Read the inputs from stdin and write the answer to stdout. Answer with the whole program in one "
        return f"{asked}\n\n{told}```python block.", "stdio", {"tests": tests, "time_limit_seconds": SECONDS}
    if kinds != {"functional"}:
        raise RecipeError(f"{place}: tests must be all stdin or all functional, and are {', '.join(sorted(kinds))}")
    calls = [_call(case, place) for case in cases]
    reference = {"entry": _function(record, place), "tests": calls, "time_limit_seconds": SECONDS}
    told = "Complete this code. Answer with the whole program in one ```python block."
    return f"{asked}\n\n{told}\n```python\n{start}\n```", "function", reference


def _cases(written: Any, place: str) -> list[dict[str, str]]:
    if not isinstance(written, str):
        raise RecipeError(f"{place} must be a text")
    try:
        cases = json.loads(written if written.lstrip().startswith("[") else _unpacked(written, place))
    except ValueError as error:
        raise RecipeError(f"{place} is no JSON ({error})") from error
    fields = ("input", "output", "testtype")
    if not isinstance(cases, list) or not all(
        isinstance(case, dict) and all(isinstance(case.get(field), str) for field in fields) for case in cases
    ):
        raise RecipeError(f"{place} must be a list of objects with {', '.join(fields)}")
    return cases


def _unpacked(packed: str, place: str) -> str:
    """The JSON in packed tests."""
    try:
        stream = zlib.decompressobj()
        content = stream.decompress(base64.b64decode(packed, validate=True), MOST_BYTES)
        if stream.unconsumed_tail or not stream.eof:
            raise RecipeError(f"{place} is cut off, or unpacks to more than {MOST_BYTES:,} bytes")
        texts = []
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name not in _HARMLESS:
                raise RecipeError(f"{place} holds more than a text ({instruction.name}), which is not run")
            texts += [argument] if instruction.name in _TEXTS else []
    except (binascii.Error, zlib.error, ValueError) as error:
        raise RecipeError(f"{place} cannot be unpacked ({error})") from error
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise RecipeError(f"{place} holds {len(texts)} texts, and not one")
    return texts[0]


def _call(case: Mapping[str, str], place: str) -> list[Any]:
    """[arguments, expected] of a functional test: an argument a line."""
    try:
        return [[json.loads(line) for line in case["input"].split("\n")], json.loads(case["output"])]
    except ValueError as error:
        raise RecipeError(f"{place}: a functional test must have JSON, an argument a line ({error})") from error


def _function(record: Record, place: str) -> str:
    try:
        name = json.loads(text_field(record, "metadata", place)).get("func_name")
    except (ValueError, AttributeError) as error:
        raise RecipeError(f"{place}: `metadata` must be a JSON object") from error
    if not isinstance(name, str):
        raise RecipeError(f"{place}: `metadata` names no `func_name`, which functional tests call")
    return name
