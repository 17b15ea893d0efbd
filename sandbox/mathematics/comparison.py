"""Compares a given answer with the expected one, part by part; single expressions go to an algebra system."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction

from sandbox.mathematics import exact, notations, units
from sandbox.mathematics.names import names_in
from sandbox.mathematics.quantities import Quantity, quantity, tree
from sandbox.mathematics.regions import INFINITY, Interval, Region, union
from sandbox.mathematics.structure import (
    Answer,
    Bracketed,
    Equation,
    Many,
    Matrix,
    Named,
    Piecewise,
    Relation,
    Scalar,
    as_region,
    parse,
)
from sandbox.mathematics.text import clean, nesting, squeezed
from sandbox.mathematics.vocabulary import function_in
from sandbox.mathematics.words import Choice, Words, same_words
from sandbox.numbers import parse_number

# What costs time to take apart is taken apart only up to here; the same text is the same answer at any length.
MAX_CHARS = 800
MAX_CLEAN_CHARS = 10_000
MAX_NESTING = 24
MAX_ITEMS = 2_000
# Members of two sets that neither text nor exact numbers pair off: each pair of them may have to be tried.
MAX_UNPAIRED = 8

_PLAIN_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_DECIMAL = re.compile(r"[-+]?\d*\.\d+%?")
_APPROXIMATELY = re.compile(r"^(?:(.*?)\s*=)?\s*\\approx\s*|^(\S+)\s*\\approx\s*")
# That a letter in the answer stands for any integer.
_WHOLE_NUMBERS = re.compile(r"(?<=.),?\s*\(?(?:where |for |with )?[kmn]\s*\\in\s*\\mathbb\{[ZN]\}(?:\^\+|_\+)?\s*\)?$")
_CALCULUS = re.compile(r"\\(?:i*int|oint|sum|prod|lim)(?![a-zA-Z])")
_LONG_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}")

Algebra = Callable[[str, str], bool]


class NeedsAlgebraError(Exception):
    """Text and numbers alone do not decide; an algebra system has to be asked."""


def undecided(expected: str, given: str) -> bool:
    """An algebra that never answers, for deciding what can be decided without one."""
    raise NeedsAlgebraError(f"{expected} against {given}")


def matches(expected: str, given: str, algebra: Algebra = undecided) -> bool:
    r"""Whether `given` is the same answer as `expected`.

    Only the whole answer counts: a list, range or chain of equations that contains the expected value is another one.
    Numbers are compared exactly: a decimal is the number that it writes, so 3.14 is neither `\pi` nor 22/7, and only
    one of 15 significant digits or more may be the rounded value of an irrational number.

    Args:
        expected: the right answer, in LaTeX or plain text.
        given: the model's.
        algebra: decides whether two single expressions, equations or inequalities are equal.

    Raises:
        NeedsAlgebraError: `algebra` was not given and is needed.
    """
    expected, given = expected.strip(), given.strip()
    if expected == given:
        return True
    if not given:
        return False
    if _PLAIN_NUMBER.fullmatch(expected) and _PLAIN_NUMBER.fullmatch(given):
        return Fraction(expected) == Fraction(given)
    if len(given) > MAX_CLEAN_CHARS or len(expected) > MAX_CLEAN_CHARS:
        return "".join(expected.split()) == "".join(given.split())
    wanted, found = clean(expected), clean(given)
    if not found:
        return not wanted
    if squeezed(wanted) == squeezed(found):
        return True
    if len(given) > max(MAX_CHARS, 2 * len(expected)) or nesting(found) > MAX_NESTING:
        return False
    wanted, found = _WHOLE_NUMBERS.sub("", wanted), _WHOLE_NUMBERS.sub("", found)
    if "\\approx" in found or "\\approx" in wanted:
        wanted, found = _rounded(wanted, found)
    try:
        return _same(parse(wanted), parse(found), algebra)
    except RecursionError:
        # Long chains such as `1/1/1/…` nest without brackets.
        return False


def _rounded(wanted: str, found: str) -> tuple[str, str]:
    r"""`\approx 2.35` is 2.35 where the expected answer is a rounded number as well."""
    if "\\approx" in wanted or _DECIMAL.fullmatch(quantity(wanted.rpartition("=")[2].strip()).core):
        return _named_exactly(wanted), _named_exactly(found)
    return wanted, found


def _named_exactly(text: str) -> str:
    match = _APPROXIMATELY.match(text)
    if match is None:
        return text
    name = match[1] or match[2]
    return f"{name}={text[match.end() :]}" if name else text[match.end() :]


def _same(wanted: Answer, found: Answer, algebra: Algebra) -> bool:
    both = (wanted, found)
    if any(isinstance(answer, Named | Equation) for answer in both):
        return _same_equation(wanted, found, algebra)
    if any(isinstance(answer, Words | Choice) for answer in both):
        return _same_text(wanted, found, algebra)
    if isinstance(wanted, Scalar) and isinstance(found, Scalar):
        return _same_scalar(wanted.text, found.text, algebra)
    if any(isinstance(answer, Matrix | Piecewise | Relation) for answer in both):
        return _same_composite(wanted, found, algebra)
    if any(isinstance(answer, Region) for answer in both):
        first, second = as_region(wanted, points=True), as_region(found, points=True)
        return first is not None and second is not None and _same_region(first, second, algebra)
    if isinstance(wanted, Bracketed) and isinstance(found, Bracketed):
        brackets = (wanted.opening, wanted.closing) == (found.opening, found.closing)
        return brackets and _same_items(wanted.items, found.items, algebra)
    if isinstance(wanted, Bracketed | Many) and isinstance(found, Bracketed | Many):
        if isinstance(wanted, Many) and isinstance(found, Many):
            return _same_unordered(wanted.items, found.items, algebra)
        if _is_single(wanted) or _is_single(found):
            return _same_unordered(_items(wanted), _items(found), algebra)
        # A set is not a tuple.
        braces = any(isinstance(answer, Many) and answer.braces for answer in both)
        return not braces and _same_items(wanted.items, found.items, algebra)
    if isinstance(wanted, Many) and len(wanted.items) == 1:
        return _same(wanted.items[0], found, algebra)
    if isinstance(found, Many) and len(found.items) == 1:
        return _same(wanted, found.items[0], algebra)
    return False


def _is_single(answer: Answer) -> bool:
    return isinstance(answer, Many) and len(answer.items) == 1


def _items(answer: Answer) -> tuple[Answer, ...]:
    return answer.items if isinstance(answer, Many) else (answer,)


def _same_text(wanted: Answer, found: Answer, algebra: Algebra) -> bool:
    if isinstance(wanted, Choice) and isinstance(found, Choice):
        if wanted.letter != found.letter:
            return False
        return not wanted.text or not found.text or _same(parse(wanted.text), parse(found.text), algebra)
    if isinstance(wanted, Words | Scalar) and isinstance(found, Words | Scalar):
        return same_words(wanted.text, found.text)
    nothing = any(isinstance(answer, Words) and answer.text == "∅" for answer in (wanted, found))
    return nothing and any(answer in (Region(()), Many((), braces=True)) for answer in (wanted, found))


def _same_equation(wanted: Answer, found: Answer, algebra: Algebra) -> bool:
    """`x = 2` is 2 if only the name was added or left out; `42 = 42` is no answer to 42."""
    if isinstance(wanted, Named) and isinstance(found, Named):
        return _same_named(wanted, found, algebra)
    if isinstance(wanted, Named | Equation) and isinstance(found, Named | Equation):
        return _same_sides(wanted, found, algebra)
    if isinstance(wanted, Named):
        return _same(_values(wanted, found), found, algebra)
    return isinstance(found, Named) and _same(wanted, _values(found, wanted), algebra)


def _same_sides(wanted: Named | Equation, found: Named | Equation, algebra: Algebra) -> bool:
    first, second = _as_equation(wanted), _as_equation(found)
    if first is None or second is None or "=" in first.right or "=" in second.right:
        return False
    if squeezed(first.left) == squeezed(second.left):
        return _same(parse(first.right), parse(second.right), algebra)
    return algebra(f"{first.left}={first.right}", f"{second.left}={second.right}")


def _as_equation(answer: Named | Equation) -> Equation | None:
    if isinstance(answer, Equation):
        return answer
    [(name, value), *others] = answer.pairs
    return Equation(name, value.text) if isinstance(value, Scalar) and not others else None


def _same_named(wanted: Named, found: Named, algebra: Algebra) -> bool:
    """Every name has the same values, in whatever order they stand."""
    first, second = _by_name(wanted), _by_name(found)
    if first.keys() != second.keys():
        return len(first) == len(second) == 1 and _same_sides(wanted, found, algebra)
    if len(first) > 1 and wanted.either != found.either:
        return False
    return all(_same(_one_or_many(first[name]), _one_or_many(second[name]), algebra) for name in first)


def _by_name(named: Named) -> dict[str, list[Answer]]:
    values: dict[str, list[Answer]] = {}
    for name, value in named.pairs:
        names = names_in(name)
        if names and len(named.pairs) == 1 and isinstance(value, Bracketed) and len(value.items) == len(names):
            return {name: [item] for name, item in zip(names, value.items, strict=True)}
        values.setdefault(name, []).append(value)
    return values


def _values(named: Named, other: Answer) -> Answer:
    """Named values without their names: values of one name are alternatives, of several a tuple by the alphabet."""
    values = _by_name(named)
    if len(values) == 1:
        return _one_or_many(next(iter(values.values())))
    if len(named.pairs) == 1:
        return named.pairs[0][1]
    names = list(values) if isinstance(other, Many) else sorted(values)
    if named.either or any(len(several) > 1 for several in values.values()):
        return Scalar("")
    return Bracketed("(", tuple(values[name][0] for name in names), ")")


def _one_or_many(values: list[Answer]) -> Answer:
    return values[0] if len(values) == 1 else Many(tuple(item for value in values for item in _items(value)))


def _same_items(wanted: Sequence[Answer], found: Sequence[Answer], algebra: Algebra) -> bool:
    return len(wanted) == len(found) and all(
        _same(one, other, algebra) for one, other in zip(wanted, found, strict=True)
    )


def _same_unordered(wanted: tuple[Answer, ...], found: tuple[Answer, ...], algebra: Algebra) -> bool:
    if len(wanted) != len(found) or len(wanted) > MAX_ITEMS:
        return False
    first, second = Counter(map(_key, wanted)), Counter(map(_key, found))
    left, right = _unpaired(wanted, first - second), _unpaired(found, second - first)
    if len(left) > MAX_UNPAIRED:
        return False
    for one in left:
        match = next((other for other in right if _same(one, other, algebra)), None)
        if match is None:
            return False
        right.remove(match)
    return True


def _key(answer: Answer) -> Hashable:
    """The same for members that are the same beyond doubt."""
    if not isinstance(answer, Scalar):
        return answer
    value = parse_number(answer.text)
    return squeezed(answer.text) if value is None else value


def _unpaired(items: tuple[Answer, ...], keys: Counter[Hashable]) -> list[Answer]:
    found = []
    for item in items:
        if keys[key := _key(item)] > 0:
            keys[key] -= 1
            found.append(item)
    return found


def _same_composite(wanted: Answer, found: Answer, algebra: Algebra) -> bool:
    if isinstance(wanted, Matrix) and isinstance(found, Matrix):
        alike = wanted.determinant == found.determinant and len(wanted.rows) == len(found.rows)
        return alike and all(map(lambda one, other: _same_items(one, other, algebra), wanted.rows, found.rows))
    if isinstance(wanted, Piecewise) and isinstance(found, Piecewise):
        left = list(found.rows)
        for row in wanted.rows:
            match = next((other for other in left if _same_items(row, other, algebra)), None)
            if match is None:
                return False
            left.remove(match)
        return not left
    if isinstance(wanted, Relation) and isinstance(found, Relation) and wanted.operator == found.operator:
        first, second = (side.left + side.operator + " " + side.right for side in (wanted, found))
        return algebra(first, second)
    return False


def _same_region(wanted: Region, found: Region, algebra: Algebra) -> bool:
    if wanted.variable and found.variable and wanted.variable != found.variable:
        return False
    wanted, found = union(wanted), union(found)
    if len(wanted.intervals) != len(found.intervals) or len(wanted.intervals) > MAX_ITEMS:
        return False
    left = list(found.intervals)
    for one in wanted.intervals:
        # Both are in order, so that the first of those left is the one, unless the ends are no numbers.
        match = next((other for other in left[:MAX_UNPAIRED] if _same_interval(one, other, algebra)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_interval(wanted: Interval, found: Interval, algebra: Algebra) -> bool:
    return (
        (wanted.low_closed, wanted.high_closed) == (found.low_closed, found.high_closed)
        and _same_scalar(wanted.low, found.low, algebra)
        and _same_scalar(wanted.high, found.high, algebra)
    )


def _same_scalar(wanted: str, found: str, algebra: Algebra) -> bool:
    if squeezed(wanted).removeprefix("+") == squeezed(found).removeprefix("+"):
        return True
    if (decided := _same_notation(wanted, found, algebra)) is not None:
        return decided
    first, second = quantity(wanted), quantity(found)
    # A letter is a unit only beside another unit.
    if second.unit is not None and first.unit is None:
        first = quantity(wanted, bare=True)
    elif first.unit is not None and second.unit is None:
        second = quantity(found, bare=True)
    scale = units.ratio(first.unit, second.unit)
    if scale is None:
        return False
    return _same_value(first, second, scale * second.factor / first.factor, algebra)


def _same_value(wanted: Quantity, found: Quantity, scale: Fraction, algebra: Algebra) -> bool:
    """Whether `found.core · scale` is `wanted.core`."""
    if scale == 1 and squeezed(wanted.core).removeprefix("+") == squeezed(found.core).removeprefix("+"):
        return True
    first, second = parse_number(wanted.core), parse_number(found.core)
    if first is not None and second is not None:
        return first == second * scale
    if INFINITY in wanted.core or INFINITY in found.core or _is_prose(found.core, wanted.core):
        return False
    factor = "" if scale == 1 else f"({scale})"
    left, right = tree(wanted.core), tree(found.core)
    if left is None or right is None:
        # Sums, integrals and limits are for the algebra system alone.
        calculus = _CALCULUS.search(wanted.core + found.core) is not None
        return calculus and algebra(wanted.core, f"{factor}({found.core})" if factor else found.core)
    if scale == 1 and left == right:
        return True
    try:
        return exact.value(left) == exact.value(right) * scale
    except exact.TooLargeError:
        return False
    except exact.IrrationalError:
        return algebra(wanted.core, f"{factor}({found.core})" if factor else found.core)


def _same_notation(wanted: str, found: str, algebra: Algebra) -> bool | None:
    """Whether numerals with a base, times or ratios are the same; None if they are none of these."""
    first, second = notations.numeral(wanted), notations.numeral(found)
    if first is not None or second is not None:
        # A base that is left out is taken as meant; a given base that the expected answer has not is another number.
        if second is None:
            return first is not None and squeezed(found).upper().lstrip("0") == first.digits
        return first == second
    if "\\equiv" in wanted and "\\equiv" in found:
        return notations.same_congruence(wanted, found)
    if ":" not in wanted and ":" not in found:
        return None
    if (time := notations.clock(wanted)) is not None:
        other_time = notations.clock(found)
        return other_time is not None and notations.same_clock(time, other_time)
    terms, other_terms = notations.ratio(wanted) or [wanted, "1"], notations.ratio(found) or [found, "1"]
    if len(terms) != len(other_terms):
        return False
    # Proportional: each term against the first.
    return all(
        _same_scalar(f"({terms[0]})\\cdot({later})", f"({other_terms[0]})\\cdot({term})", algebra)
        for term, later in zip(terms[1:], other_terms[1:], strict=True)
    )


def _is_prose(found: str, wanted: str) -> bool:
    """Whether an answer holds words that the expected one does not: prose is not an expression."""
    words = {word for word in _LONG_WORD.findall(found) if function_in(word) is None}
    return bool(words - {"unit", *_LONG_WORD.findall(wanted)})
