"""Brings the many ways of writing mathematics to one: LaTeX without decoration, ASCII where there is a choice."""

from __future__ import annotations

import re
import unicodedata

from sandbox.mathematics.units import parse_unit

_OPEN, _CLOSE = "([{", ")]}"
_IDLE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_OVERLINED = re.compile("(?:\\d\u0305)+")
_THIN_THOUSANDS = re.compile("(?<=\\d)[\u00a0\u2007\u2009\u202f](?=\\d{3}(?!\\d))")
_SYMBOLS = {
    "√": r"\sqrt ", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ",
    "⋅": r"\cdot ", "∙": r"\cdot ", "∗": "*", "÷": "/", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ",
    "≠": r"\ne ", "≈": r"\approx ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "∣": "|",
    "∅": r"\emptyset ", "±": r"\pm ", "∓": r"\mp ", "º": "°", "∠": r"\angle ", "∧": " and ", "∨": " or ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": "(", "⟩": ")",
    "−": "-", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "﹣": "-", "－": "-", "⁻": "-",
    "⁄": "/", "∕": "/", "’": "'", "′": "'", "″": "''", "\u2061": "", "\u2062": "", "\u200b": "", "\ufeff": "",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ", "ζ": r"\zeta ", "η": r"\eta ",
    "θ": r"\theta ", "ι": r"\iota ", "κ": r"\kappa ", "λ": r"\lambda ", "μ": r"\mu ", "µ": r"\mu ", "ν": r"\nu ",
    "ξ": r"\xi ", "π": r"\pi ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "υ": r"\upsilon ", "φ": r"\phi ",
    "ϕ": r"\phi ", "χ": r"\chi ", "ψ": r"\psi ", "ω": r"\omega ", "Δ": r"\Delta ", "Ω": r"\Omega ", "Σ": r"\Sigma ",
    "Φ": r"\Phi ",
}  # fmt: skip

_MARKDOWN = (("**", "**"), ("__", "__"), ("`", "`"), ("*", "*"), ("_", "_"))
_QUOTES = (
    ("``", "''"), ("`", "'"), ("“", "”"), ("‘", "’"), ("«", "»"), ('"', '"'), ("'", "'"), ("$$", "$$"), ("$", "$"),
)  # fmt: skip
_MARKS = frozenset(opening[0] for opening, _ in (*_MARKDOWN, *_QUOTES))
_BOLD = re.compile(r"(?<!\S)(\*\*|__|`)(?=\S)([^*_`\n]+?)(?<=\S)\1(?![^\s.,;:)])")

_DROPPED = frozenset({
    "displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "left", "right", "middle", "big", "Big",
    "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "Biggl", "Biggr", "bf", "rm", "it",
    "sf", "tt", "bfseries", "itshape", "upshape", "large", "Large", "LARGE", "small", "tiny", "footnotesize",
    "normalsize", "huge", "Huge", "scriptsize", "mathstrut", "strut", "boldsymbol", "bm", "pmb", "mathbf",
    "textbf", "textit", "emph", "mathit", "underline", "underset", "boxed", "fbox", "ensuremath", "mathsf",
    "textsc", "textup", "mathop",
})  # fmt: skip
_REPLACED = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac", "sfrac", "nicefrac"), r"\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), r"\le "), **dict.fromkeys(("geq", "geqslant", "geqq"), r"\ge "),
    **dict.fromkeys(("quad", "qquad", "enspace", "thinspace", "hfill", "hspace"), " "),
    **dict.fromkeys(("varnothing", "O", "empty"), r"\emptyset "), **dict.fromkeys(("lor", "vee"), " or "),
    **dict.fromkeys(("land", "wedge"), " and "), **dict.fromkeys(("vert", "lvert", "rvert", "mid"), "|"),
    **dict.fromkeys(("smallsetminus", "backslash"), r"\setminus "),
    **dict.fromkeys(("R", "Reals", "reals"), r"\mathbb{R}"),
    "neq": r"\ne ", "lt": "<", "gt": ">", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]",
    "langle": "(", "rangle": ")", "colon": ":", "degree": "°", "textdegree": "°", "percent": "%", "euro": "€",
    "texteuro": "€", "pounds": "£", "textsterling": "£", "textdollar": r"\$", "rightarrow": r"\to ", "prime": "'",
    "ldots": r"\dots ", "cdots": r"\dots ", "dotsc": r"\dots ", "thicksim": r"\approx ", "simeq": r"\approx ",
    "Bbb": r"\mathbb", "arcsinh": "arcsinh ", "arccosh": "arccosh ", "arctanh": "arctanh ",
}  # fmt: skip
_COMMAND = re.compile(r"\\([a-zA-Z]+)\s*")
_TEXT = re.compile(
    r"\\(?:operatorname\*?|text|textrm|textnormal|textsf|texttt|mathrm|mathtt|mbox|hbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,\s*\\!\s*|\\[,!;: ]\s*|~)(?=\d{3}(?!\d))")
_GAP = re.compile(r"\\[,;:! ]|\s+")
_NO_BRACES = str.maketrans("", "", "{}")
_CURRENCIES = {"\\$": "dollar", "£": "gbp", "€": "euro", "¥": "yen", "₹": "rupee", "¢": "cent"}
_CURRENCY_FIRST = re.compile(
    r"(?:US\s*)?(\\\$|[£€¥₹])\s*(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+)"
    r"(?:\s*(?:\\text\{\s*)?(thousand|million|billion|trillion)\b\s*\}?)?"
)
_CURRENCY_LAST = re.compile(r"(\d)\s*(\\\$|[£€¥₹¢])")
# Each with a text without which it cannot match, because looking for that is cheaper; in this order.
_LATEX = (
    ("\\mathrm ", re.compile(r"\\mathrm\s+([a-zA-Z\d])(?![a-zA-Z])"), r"\1"),
    (".", re.compile(r"\\(?:left|right)\s*\."), ""),
    ("R", re.compile(r"\\mathbb\s*R|\\mathbf\s*\{?\s*R\b\s*\}?"), r"\\mathbb{R}"),
    ("\\in", re.compile(r"(\\in\s*)\\(?:mathbf|mathrm|mathbb|text)\s*\{?\s*([NZQRC])\b\s*\}?"), r"\1\\mathbb{\2}"),
    ("color", re.compile(r"\\(?:text)?color\s*(?:\[[^\]]*\])?\s*\{[^{}]*\}"), ""),
    ("\\dot", re.compile(r"\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?"), r"\\overline{\1\2\3}"),
    ("\\phantom", re.compile(r"\\phantom\s*\{[^{}]*\}"), ""),
    ("space", re.compile(r"\\[hv]space\*?\s*\{[^{}]*\}"), ""),
    ("}}{", re.compile(r"\\frac\{\\(?:text|mathrm)\{([^{}]*)\}\}\{\\(?:text|mathrm)\{([^{}]*)\}\}"), r"\\text{\1/\2}"),
    ("}", re.compile(r"(\\(?:text|mathrm)\{[^{}]*)\}\s*(/|\\cdot)\s*\\(?:text|mathrm)\{"), r"\1\2 "),
    ("^", re.compile(r"\^\s*\{?\s*\\(?:circ|degree)(?![a-zA-Z])\s*\}?"), "°"),
)
# The last: what is left of a group of one word or number is that word or number.
_LATEX_LATE = (
    ("\\", re.compile(r"(?<!\\)\\[,;:! ]"), " "),
    ("\\", re.compile(r"(?<!\\)\\[()\[\]$]"), ""),
    ("$", re.compile(r"\$"), ""),
    ("%", re.compile(r"\\%"), "%"),
    ("{,}", re.compile(r"\{,\}"), ","),
    ("\\mathbb", re.compile(r"\\mathbb\s*([A-Z])(?![a-zA-Z])"), r"\\mathbb{\1}"),
    (" ", re.compile(r"(\\[a-zA-Z]+|\})\s+(?=\{)"), r"\1"),
    ("{", re.compile(r"(?<![\^_a-zA-Z\d}\]\\])\s*\{([^{}+\-=,;&|<>\\]*)\}"), r" \1 "),
    ("\\over", re.compile(r"\{\s*([^{}]*?)\s*\\over(?![a-zA-Z])\s*([^{}]*?)\s*\}"), r"\\frac{\1}{\2}"),
    ("\\choose", re.compile(r"\{\s*([^{}]*?)\s*\\choose(?![a-zA-Z])\s*([^{}]*?)\s*\}"), r"\\binom{\1}{\2}"),
)
_PLAIN = (
    ("**", re.compile(r"\*\*"), "^"),
    ("degree", re.compile(r"(?<=[\d.)}])\s*degrees?(?![a-zA-Z])"), "°"),
    ("°", re.compile(r"°\s*(?:\\unit\{\s*)?([CF])(?![a-zA-Z])\}?"), r" \\unit{°\1}"),
    ("inf", re.compile(r"(?<![\\a-zA-Z])(?:infty|infinity|inf)(?![a-zA-Z])"), r"\\infty "),
    ("oo", re.compile(r"(?<![\\a-zA-Z])oo(?![a-zA-Z])"), r"\\infty "),
    ("pi", re.compile(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])"), r"\\pi "),
    ("a", re.compile(r"(?<![\\a-zA-Z])(theta|alpha|beta|gamma|lambda|omega)(?![a-zA-Z])"), r"\\\1 "),
    ("phi", re.compile(r"(?<![\\a-zA-Z])phi(?![a-zA-Z])"), r"\\phi "),
    ("<", re.compile(r"<=|=<"), r"\\le "),
    (">", re.compile(r">="), r"\\ge "),
    ("!=", re.compile(r"!="), r"\\ne "),
    ("<>", re.compile(r"<>"), r"\\ne "),
    ("p", re.compile(r"(?<=\d)\s*(?:per\s?cents?|pct)\.?(?![a-zA-Z])"), "%"),
    ("%", re.compile(r"(?<=[\d}])\s*%"), "%"),
    ("+", re.compile(r"\+/-|\+-(?=\s*[\d\\])"), r"\\pm "),
)
_END = re.compile(r"(?:\s|[,;:]|(?<!\.)\.|\\{1,2})+$")
_SPACED = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_ELLIPSIS = re.compile(r"(\d*\.\d+)\s*(?:\.\.\.|\\dots)$")


def clean(text: str) -> str:
    r"""`text` as plain LaTeX: NFKC, symbols as commands, no decoration, single spaces, no punctuation at its end.

    What stood in `\text{}` behind a value and can be a unit is kept apart, as `\unit{}`.
    """
    text = unquoted(text.strip())
    if not text.isascii():
        text = _ascii(text)
    if "\\" in text or "$" in text or "{" in text or "~" in text:
        text = _plain_latex(text)
    if not text.isascii():
        text = _CURRENCY_LAST.sub(_currency_last, _CURRENCY_FIRST.sub(_currency_first, text))
    text = _rewritten(text, _PLAIN)
    text = " ".join(text.split())
    if ".." in text or "dots" in text:
        text = _ELLIPSIS.sub(_repeating, text)
    if not text[-1:].isalnum():
        text = unquoted(_END.sub("", text))
    return text.replace(" ", "") if " " in text and _SPACED.fullmatch(text) else text


def unquoted(text: str) -> str:
    """Without quotation marks and Markdown around the whole, and without bold words inside."""
    text = _unwrapped(text, (*_MARKDOWN, *_QUOTES))
    return _BOLD.sub(r"\2", text) if "**" in text or "`" in text or "__" in text else text


def unmarked(text: str) -> str:
    """Without Markdown around the whole: bold, italic, code."""
    return _unwrapped(text.strip(), _MARKDOWN)


def _unwrapped(text: str, marks: tuple[tuple[str, str], ...]) -> str:
    for _ in range(3):
        if text[:1] not in _MARKS:
            break
        for opening, closing in marks:
            inner = text[len(opening) : len(text) - len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inner and not ({*opening, *closing} & {*inner}):
                text = inner.strip()
                break
        else:
            break
    return text


def _ascii(text: str) -> str:
    text = _THIN_THOUSANDS.sub("", text)
    text = _OVERLINED.sub(lambda run: "\\overline{" + run.group().replace("\u0305", "") + "}", text)
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: "_{" + run.group().translate(_SUBSCRIPTS) + "}", text)
    text = "".join(_SYMBOLS.get(char) or _vulgar(char) for char in text)
    text = unicodedata.normalize("NFKC", text)
    return "".join(_SYMBOLS.get(char, char) for char in text)


def _plain_latex(text: str) -> str:
    text = _rewritten(_THOUSANDS.sub("", text), _LATEX)
    if "\\$" in text:
        text = _CURRENCY_LAST.sub(_currency_last, _CURRENCY_FIRST.sub(_currency_first, text))
    if "\\" in text:
        text = _COMMAND.sub(_command, _TEXT.sub(_text, text.replace("~", " ")))
    return _rewritten(text.replace("~", " "), _LATEX_LATE)


def _rewritten(text: str, rules: tuple[tuple[str, re.Pattern[str], str], ...]) -> str:
    for needed, pattern, replacement in rules:
        if needed in text:
            text = pattern.sub(replacement, text)
    return text


def _command(match: re.Match[str]) -> str:
    name = match[1]
    if name in _DROPPED:
        return " " if match.group()[-1:].isspace() else ""
    return _REPLACED.get(name, match.group())


def _text(match: re.Match[str]) -> str:
    r"""What stood in `\text{}`: a unit, if it can be one and stands behind a value, or else as it is."""
    content = _GAP.sub(" ", match[1]).strip()
    before = match.string[: match.start()].rstrip(" \\,;:!{")[-1:]
    if (before.isalnum() or before in ")}%°]!") and before and parse_unit(content, letters=True) is not None:
        return f" \\unit{{{content.translate(_NO_BRACES)}}}"
    return f" {content} "


def _repeating(match: re.Match[str]) -> str:
    """`0.1666...` with its period marked: the shortest that stands at least twice, a single digit three times."""
    whole, _, digits = match[1].partition(".")
    for length in range(1, len(digits) // 2 + 1):
        period = digits[-length:]
        start = digits
        while start.endswith(period):
            start = start.removesuffix(period)
        if len(digits) - len(start) >= max(2 * length, 3) or (length == 1 and not start and len(digits) > 1):
            return f"{whole}.{start}\\overline{{{period}}}"
    return match.group()


def _currency_first(match: re.Match[str]) -> str:
    amount = f"{match[2].replace(',', '')} {match[3] or ''}".strip()
    return f"{amount} \\unit{{{_CURRENCIES[match[1]]}}}"


def _currency_last(match: re.Match[str]) -> str:
    return f"{match[1]} \\unit{{{_CURRENCIES[match[2]]}}}"


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
    if separator.search(text) is None:
        return [text]
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
