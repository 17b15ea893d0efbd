"""Numbers as people and models write them, parsed exactly and in bounded time."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MAX_CHARS = 400
MAX_EXPONENT = 400

_DECIMAL = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,4}))?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
_MIXED = re.compile(r"([+-]?)(\d+)\s+(\d+)/(\d+)", re.ASCII)
_LATEX_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_THOUSANDS_GAP = re.compile("(?<=\\d)(?:,?\\s*\\\\!\\s*|\\\\[,;: ]\\s*|~|[\u00a0\u2007\u2009\u202f])(?=\\d{3}(?!\\d))")
_NOISE = re.compile(r"\\[,;:!]|\\ |~")
_DECORATION = re.compile(r"\\left|\\right|\$")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mathit)\{([^{}]*)\}")
_MINUS = str.maketrans({**dict.fromkeys("−‐‑‒–—―﹣－", "-"), "⁄": "/", "∕": "/", "٫": ".", "٬": ","})


def normalised(text: str) -> str:
    """`text` in NFKC with ASCII signs, without LaTeX spacing, dollar signs, a closing full stop and outer spaces."""
    text = _THOUSANDS_GAP.sub("", text)
    spaced = "".join(f" {char}" if unicodedata.numeric(char, None) and not char.isdecimal() else char for char in text)
    plain = unicodedata.normalize("NFKC", spaced).translate(_MINUS)
    plain = _DECORATION.sub("", _NOISE.sub(" ", _TEXT.sub(r"\1", plain.replace("{,}", ","))))
    return " ".join(plain.split()).removesuffix(".").strip()


def parse_number(text: str) -> Fraction | None:
    """The exact value of a decimal, fraction, mixed number, percentage or number with thousands separators.

    None if the text is anything else (also if it is longer than `MAX_CHARS` or its exponent exceeds `MAX_EXPONENT`, so
    that no input costs more than microseconds).
    """
    if not text or len(text) > MAX_CHARS:
        return None
    plain = normalised(text)
    if len(plain) > MAX_CHARS:
        return None
    percent = plain.endswith("%")
    if percent:
        plain = plain.removesuffix("%").removesuffix("\\").rstrip()
    value = _rational(plain)
    if value is None:
        return None
    return value / 100 if percent else value


def _rational(plain: str) -> Fraction | None:
    mixed = _MIXED.fullmatch(plain)
    if mixed is not None:
        sign, whole, top, bottom = mixed.groups()
        if not 0 < int(top) < int(bottom):
            return None
        value = int(whole) + Fraction(int(top), int(bottom))
        return -value if sign == "-" else value
    latex = _LATEX_FRACTION.search(plain)
    if latex is not None and latex.end() == len(plain):
        return _latex_fraction(plain[: latex.start()].strip(), latex)
    parts = plain.split("/")
    if len(parts) == 1:
        return _decimal(plain)
    if len(parts) != 2:
        return None
    top_value, bottom_value = _decimal(parts[0].strip()), _decimal(parts[1].strip())
    if top_value is None or not bottom_value:
        return None
    return top_value / bottom_value


def _latex_fraction(before: str, match: re.Match[str]) -> Fraction | None:
    r"""`\frac{a}{b}`, `-\frac{a}{b}` and the mixed number `2\frac{1}{2}`."""
    top = _decimal((match.group(1) or match.group(2) or "").strip())
    bottom = _decimal((match.group(3) or match.group(4) or "").strip())
    if top is None or not bottom:
        return None
    value = top / bottom
    if before in ("", "+"):
        return value
    if before == "-":
        return -value
    whole = _decimal(before)
    if whole is None or whole.denominator != 1 or not 0 < value < 1:
        return None
    return whole - value if before.startswith("-") else whole + value


def _decimal(plain: str) -> Fraction | None:
    if _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    match = _DECIMAL.fullmatch(plain)
    if match is None:
        return None
    sign, digits, exponent = match.groups()
    power = int(exponent or 0)
    if abs(power) > MAX_EXPONENT:
        return None
    value = Fraction(digits) * Fraction(10) ** power
    return -value if sign == "-" else value
