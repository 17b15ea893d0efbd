"""Language consistency: which share of the words of a reasoning are in the target language.

Source: DeepSeek-R1, section 2.3.2 (language consistency reward: the proportion of target-language words in the chain of
thought). Scripts decide where the target has a script of its own; among languages in Latin letters the detector lingua
decides, sentence by sentence. Code and mathematics are no words, and neither are variables, function names,
abbreviations and chemical formulas.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from typing import Any

from sandbox.errors import UnknownLanguageError

# Code and mathematics, in the order in which they nest: fences, inline code, displays, inline mathematics, commands. An
# environment that never closes is prose, and the search for its end stops at the next one: time stays linear.
_NOT_PROSE = (
    re.compile(r"```.*?```", re.DOTALL),
    re.compile(r"`[^`\n]*`"),
    re.compile(r"\$\$[^$]*\$\$"),
    re.compile(r"\\\[(?:(?!\\\[|\\\]).)*\\\]", re.DOTALL),
    re.compile(r"\\begin\{(?:(?!\\begin|\\end).)*\\end\{[^{}]*\}", re.DOTALL),
    re.compile(r"\$[^$\n]*\$"),
    re.compile(r"\\\((?:(?!\\\(|\\\)).)*\\\)", re.DOTALL),
    re.compile(r"\\[a-zA-Z]+(?:\{[^{}]*\})*"),
    re.compile(r"https?://\S+|</?[a-z]{1,20}>"),
)
# The detector's time grows with the square of a sentence's words, so long ones are taken in pieces.
_SENTENCE = re.compile(r"[^.!?;:\n。！？；：]{1,600}(?!\w)|[^.!?;:\n。！？；：]{1,600}")
_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# The detector is believed about this many words. About fewer only when it finds the target, or another language that
# is this many times as likely: English of up to twenty words was found up to 97 times as likely to be Danish or
# Spanish, German mostly thousands of times as likely to be German as English. Lines of fewer than eight words are not
# even that sure, so that those in which the target is not found are judged together.
_SURE_WORDS = 30
_SURE_RATIO = 100.0
_LINE_WORDS = 8
_MIN_WORDS = 4
_MAX_CHARS = 600
_FUNCTION_NAMES = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "lim", "max", "min", "mod", "gcd", "lcm", "arg",
    "det", "arcsin", "arccos", "arctan",
})  # fmt: skip
_SCRIPTS = {
    "zh": ("CJK",), "ja": ("HIRAGANA", "KATAKANA", "CJK"), "ko": ("HANGUL",), "ru": ("CYRILLIC",), "uk": ("CYRILLIC",),
    "bg": ("CYRILLIC",), "sr": ("CYRILLIC",), "ar": ("ARABIC",), "fa": ("ARABIC",), "ur": ("ARABIC",),
    "he": ("HEBREW",), "el": ("GREEK",), "hi": ("DEVANAGARI",), "mr": ("DEVANAGARI",), "bn": ("BENGALI",),
    "ta": ("TAMIL",), "te": ("TELUGU",), "th": ("THAI",), "ka": ("GEORGIAN",), "hy": ("ARMENIAN",),
}  # fmt: skip
_LATIN = ("en", "fr", "de", "es", "it", "pt", "nl", "sv", "da", "fi", "pl", "cs", "ro", "hu", "tr", "vi", "id", "ca")
# Written without spaces between words: every character counts as one.
_SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "THAI")
_EAST_ASIAN = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA"), "EAST ASIAN")


def require(language: str) -> None:
    """Make sure that `consistency` can be computed for `language`.

    Raises:
        UnknownLanguageError: the language is unknown here, or its detector is not installed.
    """
    if language in _SCRIPTS:
        return
    if language not in _LATIN:
        raise UnknownLanguageError(
            f"language {language!r} is not supported: use one of {', '.join([*_LATIN, *_SCRIPTS])}"
        )
    try:
        import lingua  # noqa: F401
    except ImportError:
        raise UnknownLanguageError(
            f"telling {language!r} from other languages in Latin letters needs the package lingua-language-detector"
        ) from None


def consistency(response: str, language: str) -> float:
    """Share of the words of the reasoning that are in `language`, from 0 to 1; 0 if there are no words."""
    sentences = [_words(sentence, language) for sentence in _SENTENCE.findall(_prose(response))]
    total = sum(map(len, sentences))
    if total == 0:
        return 0.0
    if language in _SCRIPTS:
        return sum(script in _SCRIPTS[language] for words in sentences for _, script in words) / total
    latin = [[word for word, script in words if script == "LATIN"] for words in sentences]
    right, unsure = _in_language(latin, language)
    # What nobody can tell takes the share of the rest; alone it is given the benefit of the doubt.
    rest = total - unsure
    return (right + unsure * (right / rest if rest else 1.0)) / total


def scripts(response: str) -> Counter[str]:
    """How many words of the reasoning are in which script; needs no detector, and so tells no Latin languages apart.

    Chinese characters and kana count as one script, EAST ASIAN: Japanese is written in both.
    """
    return Counter(_EAST_ASIAN.get(script, script) for _, script in _words(_prose(response), ""))


def _prose(response: str) -> str:
    """The reasoning, or all of a response that has no mark of its end, without code and mathematics."""
    reasoning, tag, _ = response.partition("</think>")
    text = reasoning.removeprefix("<think>") if tag else response
    for pattern in _NOT_PROSE:
        text = pattern.sub(" ", text)
    return text


def _in_language(sentences: list[list[str]], language: str) -> tuple[int, int]:
    """How many words are in the language, and about how many nobody can tell."""
    right = unsure = 0
    short: list[str] = []
    for words in sentences:
        found = _is_in(words, language)
        if found is None or (not found and len(words) < _LINE_WORDS):
            short += words
        else:
            right += len(words) * found
    while short:
        taken, chars = 0, 0
        while taken < len(short) and chars < _MAX_CHARS:
            chars += len(short[taken]) + 1
            taken += 1
        words, short = short[:taken], short[taken:]
        found = _is_in(words, language)
        unsure += taken if found is None else 0
        right += taken if found else 0
    return right, unsure


def _is_in(words: list[str], language: str) -> bool | None:
    """Whether words next to each other are in the language; None if they are too few to say."""
    if len(words) < _MIN_WORDS:
        return None
    likely = _likelihoods(" ".join(words))
    best = max(likely, key=lambda code: likely[code], default="")
    if best == language or len(words) >= _SURE_WORDS:
        return best == language
    return False if likely.get(best, 0.0) > _SURE_RATIO * likely.get(language, 0.0) else None


def _words(sentence: str, language: str) -> list[tuple[str, str]]:
    """Every word with its script, without what is no word of any language."""
    found = []
    runs = _LETTERS.findall(sentence)
    shouted = language not in _SCRIPTS and _is_shouted([run for run in runs if len(run) > 1])
    for run in runs:
        script = _script(run[0])
        if script in _SPACELESS:
            found += [(char, _script(char)) for char in run]
        elif not (script in ("LATIN", "GREEK") and _is_symbol(run, shouted=shouted)) and not (
            language in _SCRIPTS and script == "LATIN" and len(run) < 3
        ):
            found.append((run, script))
    return found


def _is_shouted(runs: list[str]) -> bool:
    """Whether a sentence is in capital letters; abbreviations, such as those of divisors and means, have few vowels."""
    capitals = [run for run in runs if run.isupper()]
    vowels = sum(not set(run).isdisjoint("AEIOUÄÖÜÉÈÁÍÓÚ") for run in capitals)
    return 2 * len(capitals) > len(runs) and 2 * vowels > len(capitals)


def _is_symbol(run: str, *, shouted: bool) -> bool:
    """Whether letters are a variable, a function, an abbreviation (`LCM`) or a formula (`NaOH`)."""
    if len(run) == 1 or run in _FUNCTION_NAMES:
        return True
    if run.isupper():
        return not shouted and len(run) <= 4
    return any(char.isupper() for char in run[1:])


@functools.lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "UNKNOWN").split(maxsplit=1)[0].split("-")[0]


def _likelihoods(text: str) -> dict[str, float]:
    """How likely each language is, by its code."""
    found = _detector().compute_language_confidence_values(text)
    return {str(entry.language.iso_code_639_1.name).lower(): float(entry.value) for entry in found}


@functools.lru_cache(maxsize=1)
def _detector() -> Any:
    """Loaded when first needed: the models take time and memory."""
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in _LATIN]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).with_low_accuracy_mode().build()
