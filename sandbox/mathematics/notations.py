r"""Values that are written as digits with something between or behind them: `2516_8`, `2:3`, `3:30`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.mathematics.text import squeezed

_BASED = re.compile(
    r"\(?(?P<digits>[0-9][0-9a-zA-Z]*|[a-zA-Z]{2,}|[a-zA-Z][0-9][0-9a-zA-Z]*)\)?"
    r"(?:_\{?\(?(?:base)?(?P<index>\d{1,2}|[a-z]{3,7})\)?\}?|\(?(?:inbase|base)-?(?P<word>\d{1,2}|[a-z]{3,7})\)?)"
)
_BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
          "ten": "10", "twelve": "12", "sixteen": "16"}  # fmt: skip
_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?:([ap])\.?m\.?)?", re.IGNORECASE)
_CONGRUENCE = re.compile(r"(.+?)\\equiv(-?\d+)\(?\\(?:p?mod|bmod)\{?(\d+)\}?\)?")
_RATIO = re.compile(r"[^:]+(?::[^:]+)+")


@dataclass(frozen=True, slots=True)
class Numeral:
    """Digits in a base."""

    digits: str
    base: str


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day; `half` is "a", "p" or "" if it is not said."""

    hour: int
    minute: int
    second: int
    half: str


def numeral(text: str) -> Numeral | None:
    """Digits with a base that has them."""
    match = _BASED.fullmatch(squeezed(text))
    if match is None:
        return None
    base = match["index"] or match["word"]
    base = _BASES.get(base, base)
    digits = match["digits"].upper()
    if not base.isdigit() or not 2 <= int(base) <= 36 or any(int(digit, 36) >= int(base) for digit in digits):
        return None
    return Numeral(digits.lstrip("0") or "0", base)


def clock(text: str) -> Clock | None:
    """A time such as `3:30` or `3:30 p.m.`."""
    match = _CLOCK.fullmatch(squeezed(text))
    if match is None or int(match[1]) > 24:
        return None
    return Clock(int(match[1]), int(match[2]), int(match[3] or 0), (match[4] or "").lower())


def same_clock(wanted: Clock, found: Clock) -> bool:
    """The same time; that it is in the afternoon must be said where the expected answer says it."""
    times = (wanted.hour, wanted.minute, wanted.second) == (found.hour, found.minute, found.second)
    return times and wanted.half in ("", found.half)


def ratio(text: str) -> list[str] | None:
    """The terms of `a:b:c`."""
    plain = squeezed(text)
    return plain.split(":") if _RATIO.fullmatch(plain) else None


def same_congruence(wanted: str, found: str) -> bool:
    r"""Whether the same thing leaves the same remainder: `n \equiv 5 \pmod 3` is `n \equiv 2 \pmod{3}`."""
    first, second = _CONGRUENCE.fullmatch(squeezed(wanted)), _CONGRUENCE.fullmatch(squeezed(found))
    if first is None or second is None or first.group(1, 3) != second.group(1, 3) or int(first[3]) == 0:
        return False
    return (int(first[2]) - int(second[2])) % int(first[3]) == 0
