"""The structure of an answer: number, expression, list, tuple, interval, matrix, equation or words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.mathematics.text import split, squeezed


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single expression, as text."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, or a phrase with a mathematical meaning in its one spelling."""

    text: str


@dataclass(frozen=True, slots=True)
class Many:
    """Several values in no order: a comma-separated list, a set, `a or b`, `a ± b`."""

    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Bracketed:
    """Values in brackets, in order: a point, a tuple, or an interval."""

    opening: str
    items: tuple[Answer, ...]
    closing: str


@dataclass(frozen=True, slots=True)
class Interval:
    """What lies between two ends."""

    low: str
    low_closed: bool
    high: str
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A union of intervals."""

    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """Two sides."""

    left: str
    right: str


Answer = Scalar | Words | Many | Bracketed | Region | Matrix | Equation

_INFINITY = "\\infty"
_PHRASES = {
    "nosolution": "∅", "nosolutions": "∅", "nosolutionexists": "∅", "norealsolution": "∅", "norealsolutions": "∅",
    "none": "∅", "emptyset": "∅", "theemptyset": "∅", "\\emptyset": "∅", "\\{\\}": "∅",
    "doesnotexist": "DNE", "dne": "DNE", "undefined": "undefined", "notdefined": "undefined",
    "allrealnumbers": "ℝ", "allreals": "ℝ", "\\mathbb{r}": "ℝ", "realnumbers": "ℝ", "infinite": "\\infty",
}  # fmt: skip
_OR = re.compile(r"\s(?:or|and)\s|;\s*")
_COMMA = re.compile(r",(?:\s*(?:and|or)\s)?")
_CUP = re.compile(r"\\cup(?![a-zA-Z])|\sU\s")
_EQUALS = re.compile(r"(?<![<>!:])=(?!=)")
_RELATION = re.compile(r"<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])")
_IN = re.compile(r"([a-zA-Z]|\\[a-z]+)\s*\\in(?![a-zA-Z])\s*(.+)")
_PLUS_MINUS = re.compile(r"\\pm(?![a-zA-Z])")
_MATRIX = re.compile(r"\\begin\{[pbvBV]?(?:small)?matrix\}(.*)\\end\{[pbvBV]?(?:small)?matrix\}")
_ARRAY = re.compile(r"\\begin\{array\}\{[^{}]*\}(.*)\\end\{array\}")
_VARIABLE = re.compile(r"[a-zA-Z]|\\(?:theta|alpha|beta|gamma|lambda|phi)")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_WORDS = re.compile(r"[a-zA-Z][a-zA-Z' -]*[a-zA-Z]|\(?[A-Za-z]\)?\.?:?")
_CHOICE = re.compile(r"\(?([A-H])[).:]*")


def parse(text: str) -> Answer:
    """The structure of an answer that went through `clean`."""
    text = _unwrapped(text.strip())
    phrase = _PHRASES.get(squeezed(text).lower())
    if phrase is not None:
        return Region((Interval("-" + _INFINITY, False, _INFINITY, False),)) if phrase == "ℝ" else Words(phrase)
    if (choice := _CHOICE.fullmatch(text)) is not None:
        return Words(choice.group(1))
    if (matrix := _matrix(text)) is not None:
        return matrix
    if (member := _IN.fullmatch(text)) is not None:
        return parse(member.group(2))
    return _several(text) or _relation(text) or _group(text) or _single(text)


def _unwrapped(text: str) -> str:
    """Without plain braces around the whole."""
    while text.startswith("{") and text.endswith("}") and _closes_at_end(text):
        text = text[1:-1].strip()
    return text


def _closes_at_end(text: str) -> bool:
    depth = 0
    for index, char in enumerate(text):
        escaped = index > 0 and text[index - 1] == "\\"
        depth += 0 if escaped else (char in "([{") - (char in ")]}")
        if depth == 0 and not escaped:
            return index == len(text) - 1
    return False


def _several(text: str) -> Answer | None:
    unions = split(text, _CUP)
    either = split(text, _OR)
    parts = unions if len(unions) > 1 else either
    if len(parts) > 1:
        answers = [parse(part) for part in parts]
        regions = [as_region(answer) for answer in answers]
        if all(regions) and (len(unions) > 1 or all(isinstance(answer, Region) for answer in answers)):
            return Region(tuple(interval for region in regions if region for interval in region.intervals))
        return Many(tuple(_without_name(answer) for answer in answers))
    if _THOUSANDS.fullmatch(squeezed(text)) and ", " not in text:
        return None
    commas = split(text, _COMMA)
    if len(commas) > 1:
        return Many(tuple(_without_name(parse(part)) for part in commas))
    return None


def _without_name(answer: Answer) -> Answer:
    """`x = 2` in a list of solutions is 2."""
    if isinstance(answer, Equation) and is_name(answer.left) and not _EQUALS.search(answer.right):
        return parse(answer.right)
    return answer


def is_name(text: str) -> bool:
    """Whether `text` names something: a variable, perhaps with an index or argument, and nothing to compute."""
    return re.fullmatch(r"(?:[a-zA-Z]|\\[a-z]+)(?:_\{?\w+\}?)?'*(?:\([a-zA-Z\d, ]*\))?", squeezed(text)) is not None


def _relation(text: str) -> Answer | None:
    """`a < x ≤ b` and `x ≥ a` as intervals; other inequalities stay expressions."""
    operators = _RELATION.findall(text)
    if not operators:
        return None
    parts = [squeezed(part) for part in _RELATION.split(text)]
    ends: Interval | None = None
    if len(operators) == 1:
        left, right = parts
        if _VARIABLE.fullmatch(left):
            ends = _half_line(right, operators[0])
        elif _VARIABLE.fullmatch(right):
            ends = _half_line(left, {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}[operators[0]])
    elif len(operators) == 2 and _VARIABLE.fullmatch(parts[1]):
        first, second = operators
        if first in ("<", "\\le") and second in ("<", "\\le"):
            ends = Interval(parts[0], first == "\\le", parts[2], second == "\\le")
        elif first in (">", "\\ge") and second in (">", "\\ge"):
            ends = Interval(parts[2], second == "\\ge", parts[0], first == "\\ge")
    return Scalar(text) if ends is None else Region((ends,))


def _half_line(end: str, operator: str) -> Interval:
    closed = operator in ("\\le", "\\ge")
    if operator in ("<", "\\le"):
        return Interval("-" + _INFINITY, False, end, closed)
    return Interval(end, closed, _INFINITY, False)


def _group(text: str) -> Answer | None:
    braces = text.startswith("\\{") and text.endswith("\\}")
    inner = text[2:-2] if braces else text[1:-1]
    if braces:
        items = split(inner, _COMMA)
        return Many(tuple(_without_name(parse(item)) for item in items))
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]") or not _closes_at_end(text):
        return None
    items = split(inner, _COMMA)
    if len(items) > 1:
        return Bracketed(text[0], tuple(parse(item) for item in items), text[-1])
    return parse(inner) if text[0] == "(" and text[-1] == ")" else None


def _single(text: str) -> Answer:
    sides = split(text, _EQUALS)
    if len(sides) > 1:
        return Equation(sides[0].strip(), "=".join(sides[1:]).strip())
    if len(_PLUS_MINUS.findall(text)) == 1:
        plus, minus = _PLUS_MINUS.sub("+", text).strip(), _PLUS_MINUS.sub("-", text).strip()
        return Many((Scalar(plus.removeprefix("+").strip()), Scalar(minus)))
    if _WORDS.fullmatch(text) and len(squeezed(text).strip("().:")) > 1:
        return Words(" ".join(text.lower().split()))
    return Scalar(text)


def _matrix(text: str) -> Matrix | None:
    environment = _MATRIX.fullmatch(text) or _ARRAY.fullmatch(text)
    if environment is not None:
        rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", environment.group(1)) if row.strip()]
        return Matrix(tuple(tuple(parse(entry) for entry in row.split("&")) for row in rows))
    plain = squeezed(text)
    if plain.startswith("[[") and plain.endswith("]]"):
        inner = split(plain[1:-1], _COMMA)
        if all(row.startswith("[") and row.endswith("]") for row in inner):
            return Matrix(tuple(tuple(parse(entry) for entry in split(row[1:-1], _COMMA)) for row in inner))
    return None


def as_region(answer: Answer) -> Region | None:
    """An interval written with brackets, or a region that already is one."""
    if isinstance(answer, Region):
        return answer
    if isinstance(answer, Bracketed) and len(answer.items) == 2:
        low, high = answer.items
        if isinstance(low, Scalar) and isinstance(high, Scalar):
            ends = Interval(squeezed(low.text), answer.opening == "[", squeezed(high.text), answer.closing == "]")
            return Region((ends,))
    return None
