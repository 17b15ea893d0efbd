r"""Units behind a number: `5 cm`, `5\text{ cm}`, `12 m/s`, `\$5`, `7 apples`.

A letter may be a variable as well as a unit, so a unit counts only where it can be one: one that stood in `\text{}`
(which `clean` keeps as `\unit{}`) behind anything, a written word or symbol of two letters and more behind a number,
and a bare letter only if the other answer has a unit too. Nothing is a unit behind an expression with letters.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from fractions import Fraction

from sandbox.mathematics.vocabulary import function_in

Dimension = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as powers of base units and a factor; something that is counted is a base unit of its own.

    Attributes:
        dimension: base units and their powers, sorted.
        scale: how many of them it is.
        counted: whether it is a noun, which may stand or not.
    """

    dimension: Dimension
    scale: Fraction
    counted: bool = False


def _table(base: str, rows: dict[str, str]) -> dict[str, tuple[str, Fraction]]:
    return {name: (base, Fraction(scale)) for scale, names in rows.items() for name in names.split()}


_UNITS = {
    **_table("m", {
        "1": "m meter metre", "1/1000": "mm millimeter millimetre", "1/100": "cm centimeter centimetre",
        "1/10": "dm decimeter decimetre", "1000": "km kilometer kilometre", "1/1000000": "µm μm micrometer micron",
        "1/1000000000": "nm nanometer nanometre", "127/5000": "in inch", "381/1250": "ft foot feet",
        "1143/1250": "yd yard", "201168/125": "mi mile",
    }),
    **_table("s", {
        "1": "s sec second", "1/1000": "ms millisecond", "60": "min minute", "3600": "h hr hour",
        "86400": "day", "604800": "week",
    }),
    **_table("year", {"1": "yr year", "1/12": "month", "10": "decade", "100": "century"}),
    **_table("g", {
        "1": "g gram gramme", "1/1000": "mg milligram", "1000": "kg kilogram kilo", "1000000": "tonne",
        "45359237/100000": "lb pound", "45359237/1600000": "oz ounce",
    }),
    **_table("m^3", {"1/1000": "l L liter litre", "1/1000000": "ml mL milliliter millilitre", "1/100000": "cl"}),
    **_table("gallon", {"1": "gal gallon", "1/4": "qt quart", "1/8": "pt pint", "1/16": "cup"}),
    **_table("dollar", {"1": "dollar usd USD buck", "1/100": "cent ¢"}),
    **_table("euro", {"1": "euro eur EUR"}), **_table("gbp", {"1": "gbp GBP"}), **_table("yen", {"1": "yen yuan"}),
    **_table("rupee", {"1": "rupee"}),
    **_table("degree", {"1": "° degree deg"}), **_table("radian", {"1": "rad radian"}),
    **_table("celsius", {"1": "celsius °C"}), **_table("fahrenheit", {"1": "fahrenheit °F"}),
    **_table("kelvin", {"1": "K kelvin"}),
    **_table("n", {"1": "N newton", "1000": "kN"}), **_table("j", {"1": "J joule", "1000": "kJ kilojoule"}),
    **_table("w", {"1": "W watt", "1000": "kW kilowatt"}), **_table("pa", {"1": "Pa pascal", "1000": "kPa"}),
    **_table("hz", {"1": "Hz hertz", "1000": "kHz"}), **_table("v", {"1": "V volt"}),
    **_table("mol", {"1": "mol mole"}),
    **_table("unit", {"1": "unit"}), **_table("acre", {"1": "acre"}), **_table("hectare", {"1": "hectare"}),
    **_table("bit", {"1": "bit", "8": "byte"}), **_table("ampere", {"1": "ampere amp"}), **_table("ohm", {"1": "ohm"}),
}  # fmt: skip
# Single letters that are units where nothing else can be meant.
_LETTERS = frozenset("mslLgNJWVKh")
# What is a unit even if it touches the number and the other answer has none, and what is one in spite of its letters.
_GLUED = frozenset({
    "cm", "mm", "km", "kg", "mg", "ml", "mL", "kW", "kJ", "Hz", "mph", "km/h", "cm^2", "cm^3", "km^2", "mm^2",
    "cm^{2}", "cm^{3}", "km^{2}",
})  # fmt: skip
_CLEAR = frozenset({
    "m/s", "m/s^2", "m/s^{2}",
})  # fmt: skip
_COMPOUND = {"mph": "mile/hour", "kph": "km/h", "kmph": "km/h", "kmh": "km/h", "fps": "ft/s", "sqft": "ft^2"}
_FACTOR = re.compile(
    r"(?:(square|cubic|sq|cu)\.?\s*)?([a-zA-Zµμ°¢]+)\.?(?:\s*(squared|cubed)|\s*\^\s*\{?\s*([+-]?\d)\s*\}?)?"
)
_BETWEEN = re.compile(r"\s*(?:(/|\bper\b)|\\cdot(?![a-zA-Z])|·|\*|(?=\s))\s*")
_MARKED = re.compile(r"(?P<number>.*?)\s*\\unit\{(?P<unit>[^{}]*)\}\s*(?P<power>\^\s*\{?\s*-?\d\s*\}?)?")
_WRITTEN = re.compile(
    r"(?P<number>.*?[\d)}!.]|.*\\pi)(?P<gap>\s*)(?P<unit>[a-zA-Zµμ°¢][^\d{}()\\]*(?:\^\s*\{?\s*-?\d\s*\}?)?)"
)
_NOUN = re.compile(r"[a-zA-Z]{3,}(?:[ -][a-zA-Z]{2,}){0,3}")
_NUMERAL = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+|\d*\s*\\frac\{\d+\}\{\d+\}|\d+\s*/\s*\d+|\d+\s+\d+\s*/\s*\d+)")
_VARIABLE = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]+|\\(?!(?:frac|sqrt|pi|cdot|times)(?![a-zA-Z]))[a-zA-Z]+")
# Words after a number that make it another number, or no answer.
_NO_NOUNS = frozenset({
    "squared", "cubed", "factorial", "halves", "thirds", "quarters", "fourths", "fifths", "sixths", "eighths", "tenths",
    "hundredths", "thousandths", "tens", "dozens", "hundreds", "thousands", "millions", "billions", "below", "above",
    "negative", "inverse", "grand", "score", "gross", "couple", "wrong", "incorrect", "false",
    "or", "and", "to", "is", "are", "was", "not", "no", "maybe", "but", "more", "less", "fewer", "than",
    "plus", "minus", "times", "over", "divided", "by", "if", "then", "else", "mod", "base", "hundred",
    "thousand", "million", "billion", "trillion", "dozen", "half", "third", "quarter", "percent", "pct",
    "percentage", "th", "st", "nd", "rd", "remainder", "with", "from", "until", "through", "between",
    "either", "only", "approximately", "about", "pi", "sqrt", "sin", "cos", "tan", "log", "ln", "exp",
})  # fmt: skip
_SHORT_NOUNS = frozenset(
    {"men", "girl", "boy", "car", "egg", "cup", "day", "book", "coin", "card", "ball", "way", "team"}
)
_SUMMAND = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\\unit\{([^{}]*)\}|([a-zA-Z]{2,}))")
_SUMMED = re.compile(rf"(?:{_SUMMAND.pattern},?\s*(?:and\s+)?){{2,4}}")


def split(text: str, *, bare: bool = False) -> tuple[str, Unit | None]:
    r"""The text without its unit, and the unit.

    Args:
        text: one value, after `clean`.
        bare: whether a single letter may be a unit.
    """
    marked = _MARKED.fullmatch(text)
    if marked is not None:
        unit = parse_unit(marked["unit"] + (marked["power"] or ""), letters=True)
        return (marked["number"], unit) if unit is not None and marked["number"] else (text, None)
    written = _WRITTEN.fullmatch(text) if text[-1:] not in "0123456789" or "^" in text[-4:] else None
    if written is None or _VARIABLE.search(written["number"]):
        return text, None
    name = written["unit"].strip()
    glued = not written["gap"] and name != "°"
    if glued and not bare and name not in _GLUED:
        return text, None
    unit = parse_unit(name, letters=bare or name in _CLEAR or re.search("[a-zA-Z]{2}", name) is not None)
    if unit is None and not glued and _NUMERAL.fullmatch(written["number"].strip()):
        unit = noun(name)
    return (written["number"].strip(), unit) if unit is not None else (text, None)


def summed(text: str) -> tuple[str, Unit] | None:
    """`5 feet 6 inches` or `2 hours and 15 minutes` as one number of the last unit; None if the text is no such sum."""
    if _SUMMED.fullmatch(text) is None:
        return None
    total, last = Fraction(0), None
    for number, marked, written in _SUMMAND.findall(text):
        unit = parse_unit(marked or written, letters=bool(marked))
        if unit is None or (last is not None and unit.dimension != last.dimension):
            return None
        total += Fraction(number) * unit.scale
        last = unit
    return None if last is None else (str(total / last.scale), last)


def noun(text: str) -> Unit | None:
    """Something that is counted, such as `blue marbles`; its last word says what, and is no product of letters."""
    words = text.lower().rstrip(".").replace("-", " ").split()
    if not _NOUN.fullmatch(" ".join(words)) or _NO_NOUNS & set(words) or any(map(function_in, words)):
        return None
    long = len(words[-1]) > 4 or (len(words[-1]) == 4 and words[-1].endswith("s")) or words[-1] in _SHORT_NOUNS
    if not long or set("aeiou").isdisjoint(words[-1]):
        return None
    return Unit(((_singular(words[-1]), 1),), Fraction(1), counted=True)


def ratio(wanted: Unit | None, found: Unit | None) -> Fraction | None:
    """What to multiply the found number by to compare it; None if the units do not fit. No unit fits every unit."""
    if wanted is None or found is None:
        return Fraction(1)
    return found.scale / wanted.scale if wanted.dimension == found.dimension else None


@functools.lru_cache(maxsize=1024)
def parse_unit(text: str, *, letters: bool) -> Unit | None:
    r"""A unit in one of its writings: `cm^2`, `square cm`, `km/h`, `meters per second`, `m s^{-1}`.

    Args:
        text: all that may be the unit.
        letters: whether single letters may be units.
    """
    text = text.strip().strip("~").rstrip(".").strip()
    text = _COMPOUND.get(text.lower().replace(" ", "").replace(".", ""), text)
    powers: dict[str, int] = {}
    scale, at, sign = Fraction(1), 0, 1
    while at < len(text):
        factor = _FACTOR.match(text, at)
        known = None if factor is None else _known(factor[2], letters)
        if factor is None or known is None:
            return None
        power = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}.get(factor[1] or "", 1)
        power *= {"squared": 2, "cubed": 3}.get(factor[3] or "", 1) * int(factor[4] or 1) * sign
        base, size = known
        base, _, exponent = base.partition("^")
        powers[base] = powers.get(base, 0) + power * int(exponent or 1)
        scale *= size**power
        at = factor.end()
        if at < len(text):
            between = _BETWEEN.match(text, at)
            if between is None or (between.end() == at and text[at - 1] != "."):
                return None
            sign, at = -1 if between[1] else sign, between.end()
    if not powers:
        return None
    return Unit(tuple(sorted((base, power) for base, power in powers.items() if power)), scale)


def _known(name: str, letters: bool) -> tuple[str, Fraction] | None:
    if len(name) == 1 and name.isascii():
        return _UNITS.get(name, _UNITS.get(name.lower())) if letters and name in _LETTERS else None
    for spelling in (name, name.lower(), _singular(name.lower())):
        if spelling in _UNITS and (len(spelling) > 1 or not spelling.isascii()):
            return _UNITS[spelling]
    return None


def _singular(word: str) -> str:
    if word == "people":
        return "person"
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word
