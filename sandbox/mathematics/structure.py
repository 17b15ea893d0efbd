"""The structure of an answer: number, expression, list, tuple, interval, matrix, equation, named values or words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.mathematics import units
from sandbox.mathematics.names import is_name, is_tuple_of_names
from sandbox.mathematics.regions import (
    INFINITY,
    NOWHERE,
    POSITIVE,
    REALS,
    Interval,
    Region,
    UnorderedError,
    intersection,
    point,
    union,
    without,
)
from sandbox.mathematics.text import split, squeezed
from sandbox.mathematics.words import Choice, Words, as_choice, as_phrase, as_words


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single expression, as text."""

    text: str


@dataclass(frozen=True, slots=True)
class Many:
    """Several values in no order: a comma-separated list, a set (in braces), `a or b`, `a ± b`."""

    items: tuple[Answer, ...]
    braces: bool = False


@dataclass(frozen=True, slots=True)
class Bracketed:
    """Values in brackets, in order: a point, a tuple, or an interval."""

    opening: str
    items: tuple[Answer, ...]
    closing: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries; a determinant is written with bars."""

    rows: tuple[tuple[Answer, ...], ...]
    determinant: bool = False


@dataclass(frozen=True, slots=True)
class Piecewise:
    """Values, each with the condition under which it holds."""

    rows: tuple[tuple[Answer, Answer], ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """Two sides."""

    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Relation:
    r"""Two sides and `<`, `\le` or `\ne`."""

    left: str
    operator: str
    right: str


@dataclass(frozen=True, slots=True)
class Named:
    """Values with names: `x = 1, y = 2`; a name may have several. `either`: they are alternatives (`or`)."""

    pairs: tuple[tuple[str, Answer], ...]
    either: bool = False


Answer = Scalar | Words | Choice | Many | Bracketed | Region | Matrix | Piecewise | Equation | Relation | Named

_OR = re.compile(r"\sor\s")
_AND = re.compile(r"\sand\s|;\s*|&(?=\s*\S)")
_COMMA = re.compile(r",(?:\s*(?:and|or)\s)?")
_CUP = re.compile(r"\\cup(?![a-zA-Z])|\sU\s")
_CAP = re.compile(r"\\cap(?![a-zA-Z])")
_WITHOUT = re.compile(r"\\setminus(?![a-zA-Z])|\s?(?<=\})-(?=\s*\\\{)")
_EQUALS = re.compile(r"(?<![<>!:])=(?!=)")
_RELATION = re.compile(r"<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])")
_IN = re.compile(r"([a-zA-Z]|\\[a-z]+)\s*\\in(?![a-zA-Z])\s*(.+)")
_BUILDER = re.compile(r"\\\{\s*([a-zA-Z])\s*(?:\\in(?![a-zA-Z])\s*([^|:]*?)\s*)?(?:\||:)(.+)\\\}")
_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![a-zA-Z])")
_ENVIRONMENT = re.compile(
    r"(?P<before>.*?)\\begin\{(?P<name>[a-z]*(?:matrix|array|cases|aligned?|split|gathered))\*?\}"
    r"(?P<columns>\{[^{}]*\})?(?P<body>.*)\\end\{(?P=name)\*?\}(?P<after>\s*[)\]|]?)"
)
_ROW = re.compile(r"\\\\(?:\s*\[[^\]]*\])?|\\hline")
_VARIABLE = re.compile(r"[a-zA-Z]|\\(?:theta|alpha|beta|gamma|lambda|phi)")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?(?:(?:\\unit\{[^{}]*\}| ?[a-zA-Z ]+|%)(?:\^\{?\d\}?)?)?")
_EXCEPT = re.compile(r"(?:all )?(?:the )?real(?:s| numbers)?,? (?:except|other than|but|not equal to)(?: for)? (.+)")
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}


def parse(text: str) -> Answer:
    """The structure of an answer that went through `clean`."""
    text = _unwrapped(text.strip())
    if units.summed(text) is not None:
        return Scalar(text)
    if (phrase := as_phrase(text)) is not None:
        return {"ℝ": REALS, "ℝ+": POSITIVE}.get(phrase.text, phrase)
    if (choice := as_choice(text)) is not None:
        return choice
    if "\\begin" in text and (environment := _environment(text)) is not None:
        return environment
    if text.startswith("[") and (matrix := as_matrix(text)) is not None:
        return matrix
    return _set(text) or _several(text) or _relation(text) or _group(text) or _single(text)


def _unwrapped(text: str) -> str:
    """Without plain braces around the whole; round a list they are those of a set."""
    while text.startswith("{") and text.endswith("}") and _closes_at_end(text):
        text = text[1:-1].strip()
        if len(split(text, _COMMA)) > 1 and not _is_one_number(text):
            return f"\\{{{text}\\}}"
    return text


def _closes_at_end(text: str) -> bool:
    depth = 0
    for index, char in enumerate(text):
        escaped = index > 0 and text[index - 1] == "\\"
        depth += 0 if escaped else (char in "([{") - (char in ")]}")
        if depth == 0 and not escaped:
            return index == len(text) - 1
    return False


def _set(text: str) -> Answer | None:
    r"""`x \in S`, `\{x \mid …\}`, `A \setminus B`, `x \ne 1, 2` and all reals but some."""
    if (member := _IN.fullmatch(text)) is not None:
        return parse(member[2])
    if (builder := _BUILDER.fullmatch(text)) is not None:
        inside = parse(builder[3])
        domain = REALS if builder[2] is None else parse(builder[2])
        return Region(inside.intervals) if isinstance(inside, Region) and domain == REALS else None
    removed: list[str] | None = None
    if len(parts := split(text, _WITHOUT)) == 2:
        removed = parts
    elif (other := _EXCEPT.fullmatch(text)) is not None:
        removed = ["\\mathbb{R}", other[1]]
    elif len(_RELATION.findall(text)) == 1 and len(sides := re.split(r"\\ne(?![a-zA-Z])", text)) == 2:
        removed = ["\\mathbb{R}", sides[1]] if _is_bound(*map(squeezed, sides)) else None
    if removed is None:
        return None
    whole, taken = as_region(parse(removed[0])), as_region(parse(removed[1]), points=True)
    try:
        return None if whole is None or taken is None else without(whole, taken)
    except UnorderedError:
        return None


def _several(text: str) -> Answer | None:
    for separator, combined in ((_CUP, _united), (_CAP, _common), (_OR, _either), (_AND, _all)):
        if len(parts := split(text, separator)) > 1:
            return combined([parse(part) for part in parts])
    if _is_one_number(text):
        return None
    if len(parts := split(text, _COMMA)) > 1:
        return _all([parse(part) for part in parts], listed=True)
    return None


def _is_one_number(text: str) -> bool:
    """Whether the commas of `text` are those between thousands."""
    left, equals, right = text.partition("=")
    value = squeezed(right if equals and is_name(left) else text)
    return ", " not in text and _THOUSANDS.fullmatch(value) is not None


def _united(answers: list[Answer]) -> Answer | None:
    regions = [as_region(answer, points=True) for answer in answers]
    if all(regions):
        return union(*(region for region in regions if region))
    return Many(tuple(answers))


def _common(answers: list[Answer]) -> Answer | None:
    regions = [as_region(answer, points=True) for answer in answers]
    if not all(regions):
        return None
    found = REALS
    try:
        for region in regions:
            found = intersection(found, region or NOWHERE)
    except UnorderedError:
        return None
    return found


def _either(answers: list[Answer]) -> Answer | None:
    if all(isinstance(answer, Region) for answer in answers):
        return _united(answers)
    return _named(answers, either=True) or Many(tuple(_flat(answers)))


def _all(answers: list[Answer], *, listed: bool = False) -> Answer | None:
    """Conditions that all hold; but a list of conditions that exclude each other can only mean alternatives."""
    if all(isinstance(answer, Region) for answer in answers):
        common = _common(answers)
        return _united(answers) if listed and common in (NOWHERE, None) else common
    return _named(answers) or Many(tuple(_flat(answers)))


def _flat(answers: list[Answer]) -> list[Answer]:
    r"""`\pm 1, \pm 2` are four values."""
    if not any(isinstance(answer, Many) for answer in answers):
        return answers
    return [item for answer in answers for item in (answer.items if isinstance(answer, Many) else (answer,))]


def _named(answers: list[Answer], *, either: bool = False) -> Named | None:
    """Values with names, if the first has one; what follows without a name has the last one: `x = 1, 2`."""
    pairs: list[tuple[str, Answer]] = []
    for answer in answers:
        if isinstance(answer, Named):
            pairs += answer.pairs
            either |= answer.either
        elif pairs and isinstance(answer, Scalar | Bracketed | Many):
            pairs.append((pairs[-1][0], answer))
        else:
            return None
    unnamed = any(not isinstance(answer, Named) for answer in answers)
    return None if unnamed and len({name for name, _ in pairs}) > 1 else Named(tuple(pairs), either)


def _relation(text: str) -> Answer | None:
    """`a < x ≤ b` and `x ≥ a` as intervals; other inequalities keep their sides."""
    operators = _RELATION.findall(text)
    if not operators:
        return None
    parts = [squeezed(part) for part in _RELATION.split(text)]
    ends: Interval | None = None
    variable = next((part for part in parts if _VARIABLE.fullmatch(part)), "")
    if len(operators) == 1:
        (left, right), operator = parts, operators[0]
        if operator != "\\ne" and _is_bound(left, right):
            ends = _half_line(right, operator)
        elif operator != "\\ne" and _is_bound(right, left):
            ends = _half_line(left, _FLIPPED[operator])
        if ends is None and operator in (">", "\\ge"):
            return Relation(right, _FLIPPED[operator], left)
        if ends is None:
            return Relation(left, operator, right)
    elif len(operators) == 2 and _VARIABLE.fullmatch(parts[1]):
        variable = parts[1]
        first, second = operators
        if first in ("<", "\\le") and second in ("<", "\\le"):
            ends = Interval(parts[0], first == "\\le", parts[2], second == "\\le")
        elif first in (">", "\\ge") and second in (">", "\\ge"):
            ends = Interval(parts[2], second == "\\ge", parts[0], first == "\\ge")
    return Scalar(text) if ends is None else Region((ends,), variable)


def _is_bound(variable: str, end: str) -> bool:
    """Whether one side is a variable and the other says where it ends: `x < 3`, not `x < y`."""
    return _VARIABLE.fullmatch(variable) is not None and _VARIABLE.fullmatch(end) is None


def _half_line(end: str, operator: str) -> Interval | None:
    if not end or "," in end:
        return None
    closed = operator in ("\\le", "\\ge")
    if operator in ("<", "\\le"):
        return Interval("-" + INFINITY, False, end, closed)
    return Interval(end, closed, INFINITY, False)


def _group(text: str) -> Answer | None:
    if text.startswith("\\{") and text.endswith("\\}"):
        items = [parse(item) for item in split(text[2:-2], _COMMA) if item.strip()]
        named = _named(items) if items else None
        values = _flat(items) if named is None else [value for _, value in named.pairs]
        return Many(tuple(values), braces=True)
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]") or not _closes_at_end(text):
        return None
    items = [parse(item) for item in split(text[1:-1], _COMMA)]
    if len(items) > 1:
        return Bracketed(text[0], tuple(items), text[-1])
    return items[0] if text[0] == "(" and text[-1] == ")" else None


def _single(text: str) -> Answer:
    sides = split(text, _EQUALS)
    if len(sides) > 1:
        left, right = sides[0].strip(), "=".join(sides[1:]).strip()
        if len(sides) == 2 and right and (is_name(left) or is_tuple_of_names(left)):
            return Named(((squeezed(left), parse(right)),))
        return Equation(left, right)
    if len(signs := _PLUS_MINUS.findall(text)) == 1 or (len(signs) == 2 and len(set(signs)) == 2):
        upper = _PLUS_MINUS.sub(lambda sign: "+" if sign.group() == "\\pm" else "-", text).strip()
        lower = _PLUS_MINUS.sub(lambda sign: "-" if sign.group() == "\\pm" else "+", text).strip()
        return Many((Scalar(upper.removeprefix("+").strip()), Scalar(lower.removeprefix("+").strip())))
    return as_words(text) or Scalar(text)


def _environment(text: str) -> Answer | None:
    """Matrices, perhaps in brackets of their own or with a factor; cases; and systems of equations."""
    found = _ENVIRONMENT.fullmatch(text)
    plain = squeezed(text)
    if found is None:
        return None
    before, name = found["before"].strip(), found["name"]
    rows = [[cell.strip() for cell in row.split("&")] for row in _ROW.split(found["body"]) if row.strip(" &")]
    if not name.endswith("matrix") and (name != "array" or before.endswith("\\{")):
        head = before.removesuffix("\\{").strip()
        system = _system(rows)
        if head.endswith("=") and is_name(head[:-1]):
            return Named(((squeezed(head[:-1]), system),))
        return None if head else system
    head, equals, factor = before.rpartition("=")
    if equals and not is_name(head):
        return None
    opening = factor.strip()[-1:] if found["after"].strip() else ""
    if (opening + found["after"].strip()) not in ("", "()", "[]", "||"):
        return None
    factor = factor.strip().removesuffix(opening).strip() if opening else factor.strip()
    factor = factor.strip("+") + "1" if factor in ("-", "+") else factor
    entries = tuple(tuple(parse(f"({factor})({cell})" if factor else cell) for cell in row) for row in rows)
    return Matrix(entries, determinant=name.startswith(("v", "V")) or opening == "|") if plain else None


def _system(rows: list[list[str]]) -> Answer:
    if all(len(row) == 2 and not re.match(r"\s*(=|<|>|\\le|\\ge)", row[1]) for row in rows):
        return Piecewise(tuple((parse(row[0].rstrip(", ")), parse(_condition(row[1]))) for row in rows))
    return parse(", ".join("".join(row).strip(" ,") for row in rows))


def _condition(text: str) -> str:
    text = re.sub(r"^\s*,?\s*(?:if|for|when|where)\b", "", text).strip(" ,")
    return "otherwise" if text.lower() in ("else", "elsewhere", "other") else text


def as_matrix(text: str) -> Matrix | None:
    """`[[1,2],[3,4]]`."""
    plain = squeezed(text)
    if not (plain.startswith("[[") and plain.endswith("]]")):
        return None
    inner = split(plain[1:-1], _COMMA)
    if not all(row.startswith("[") and row.endswith("]") for row in inner):
        return None
    return Matrix(tuple(tuple(parse(entry) for entry in split(row[1:-1], _COMMA)) for row in inner))


def as_region(answer: Answer, *, points: bool = False) -> Region | None:
    """An interval written with brackets, or a region that already is one; with `points` also what is a finite set."""
    if isinstance(answer, Region):
        return answer
    if isinstance(answer, Bracketed) and len(answer.items) == 2:
        low, high = answer.items
        if isinstance(low, Scalar) and isinstance(high, Scalar):
            ends = Interval(squeezed(low.text), answer.opening == "[", squeezed(high.text), answer.closing == "]")
            return Region((ends,))
    if points and isinstance(answer, Words) and answer.text == "∅":
        return NOWHERE
    if points and isinstance(answer, Named):
        return as_region(Many(tuple(value for _, value in answer.pairs)), points=True)
    if points and isinstance(answer, Scalar):
        return Region((point(squeezed(answer.text)),))
    if points and isinstance(answer, Many) and all(isinstance(item, Scalar) for item in answer.items):
        return union(Region(tuple(point(squeezed(item.text)) for item in answer.items if isinstance(item, Scalar))))
    return None
