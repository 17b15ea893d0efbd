"""Brings the many ways of writing mathematics to one: LaTeX without decoration, ASCII where there is a choice."""

from __future__ import annotations

import re
import unicodedata

MAX_CHARS = 800
MAX_NESTING = 24

_OPEN, _CLOSE = "([{", ")]}"
_IDLE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SYMBOLS = {
    "√": r"\sqrt", "π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ",
    "∅": r"\emptyset ", "±": r"\pm ", "°": r"^\circ ", "ℝ": r"\mathbb{R}", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "φ": r"\phi ", "−": "-", "–": "-", "⁄": "/", "∕": "/",
    "’": "'", "\u2061": "", "\u200b": "",
}  # fmt: skip
_COMMANDS = (
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\(?:leq|leqslant)(?![a-zA-Z])"), r"\\le"),
    (re.compile(r"\\(?:geq|geqslant)(?![a-zA-Z])"), r"\\ge"),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\(?:varnothing|O)(?![a-zA-Z])"), r"\\emptyset"),
    (re.compile(r"\\(?:displaystyle|textstyle|limits|left|right|big|Big|bigg|Bigg)(?![a-zA-Z])"), ""),
    (re.compile(r"(?<!\\)\\(?:quad|qquad|[,;:! ])"), " "),
    (re.compile(r"\\(?:lor|vee)(?![a-zA-Z])"), " or "),
    (re.compile(r"\\(?:operatorname|text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox)\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:lbrace)(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\(?:rbrace)(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"\\mathbb\s*R"), r"\\mathbb{R}"),
    (re.compile(r"(?<!\\)\\[()\[\]$]|\$|~"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![a-zA-Z])"), " degrees "),
    (re.compile(r"\\sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"\\sqrt\s*(\d+|[a-zA-Z])"), r"\\sqrt{\1}"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"(\\frac\{[^{}]*\})\s*(\d)"), r"\1{\2}"),
    (re.compile(r"(?<![\\a-zA-Z])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"(?<![\\a-zA-Z])(?:oo|infty|infinity|inf)(?![a-zA-Z])"), r"\\infty "),
    (re.compile(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])"), r"\\pi "),
    (re.compile(r"<="), r"\\le "),
    (re.compile(r">="), r"\\ge "),
)  # fmt: skip


def clean(text: str) -> str:
    """`text` as plain LaTeX: NFKC, symbols as commands, no decoration, single spaces, no closing full stop."""
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: "_{" + run.group().translate(_SUBSCRIPTS) + "}", text)
    text = "".join(_SYMBOLS.get(char) or _vulgar(char) for char in text)
    text = unicodedata.normalize("NFKC", text)
    text = "".join(_SYMBOLS.get(char, char) for char in text)
    for pattern, replacement in _COMMANDS:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split())
    return text.removesuffix(".").strip()


def _vulgar(char: str) -> str:
    """`½` as a LaTeX fraction; every other character as it is."""
    if unicodedata.category(char) != "No" or "⁄" not in (decomposed := unicodedata.normalize("NFKC", char)):
        return char
    top, bottom = decomposed.split("⁄")
    return f"\\frac{{{top}}}{{{bottom}}}"


def nesting(text: str) -> int:
    """How deeply the brackets of `text` are nested at most."""
    depth = deepest = 0
    for char in text:
        depth += (char in _OPEN) - (char in _CLOSE)
        deepest = max(deepest, depth)
    return deepest


def squeezed(text: str) -> str:
    """`text` without white space, except between digits, where it means something."""
    return _IDLE_SPACE.sub("", text)


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """`text` split where `separator` matches outside all brackets and environments; `[text]` if it nowhere does.

    Brackets need not be of the same kind, because half-open intervals are written `[0,1)`.
    """
    parts, depth, start, index = [], 0, 0, 0
    while index < len(text):
        if text.startswith("\\begin", index) or text.startswith("\\{", index):
            depth += 1
            index += 2
            continue
        if text.startswith("\\end", index) or text.startswith("\\}", index):
            depth -= 1
            index += 2
            continue
        match = separator.match(text, index) if depth == 0 else None
        if match is not None and match.end() > index:
            parts.append(text[start:index])
            start = index = match.end()
            continue
        depth += (text[index] in _OPEN) - (text[index] in _CLOSE)
        index += 1
    return [*parts, text[start:]]
