"""Language consistency: which share of the words of a reasoning are in the target language.

Source: DeepSeek-R1, section 2.3.2 (language consistency reward: the proportion of target-language words in the chain of
thought). Scripts decide where the target has a script of its own; among languages in Latin letters the detector lingua
decides, sentence by sentence. Code and mathematics are no words.
"""

from __future__ import annotations

import functools
import re
import unicodedata
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
# Below this many words a sentence in Latin letters holds too little for a detector: it follows its surroundings.
_MIN_WORDS = 4
_SCRIPTS = {
    "zh": ("CJK",), "ja": ("HIRAGANA", "KATAKANA", "CJK"), "ko": ("HANGUL",), "ru": ("CYRILLIC",), "uk": ("CYRILLIC",),
    "bg": ("CYRILLIC",), "sr": ("CYRILLIC",), "ar": ("ARABIC",), "fa": ("ARABIC",), "ur": ("ARABIC",),
    "he": ("HEBREW",), "el": ("GREEK",), "hi": ("DEVANAGARI",), "mr": ("DEVANAGARI",), "bn": ("BENGALI",),
    "ta": ("TAMIL",), "te": ("TELUGU",), "th": ("THAI",), "ka": ("GEORGIAN",), "hy": ("ARMENIAN",),
}  # fmt: skip
_LATIN = ("en", "fr", "de", "es", "it", "pt", "nl", "sv", "da", "fi", "pl", "cs", "ro", "hu", "tr", "vi", "id", "ca")
# Written without spaces between words: every character counts as one.
_SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "THAI")


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
    reasoning, tag, _ = response.partition("</think>")
    text = reasoning.removeprefix("<think>") if tag else response
    for pattern in _NOT_PROSE:
        text = pattern.sub(" ", text)
    total = right = unsure = 0
    for sentence in _SENTENCE.findall(text):
        words = _words(sentence)
        total += len(words)
        if language in _SCRIPTS:
            right += sum(script in _SCRIPTS[language] for script in words)
            continue
        latin = sum(script == "LATIN" for script in words)
        if latin < _MIN_WORDS:
            unsure += latin
        elif _detected(sentence) == language:
            right += latin
    if total == 0:
        return 0.0
    # Short sentences take the share that the longer ones have; alone they are given the benefit of the doubt.
    rest = total - unsure
    return (right + unsure * (right / rest if rest else 1.0)) / total


def _words(sentence: str) -> list[str]:
    """The script of every word."""
    scripts = []
    for word in _LETTERS.findall(sentence):
        script = _script(word[0])
        scripts += [_script(char) for char in word] if script in _SPACELESS else [script]
    return scripts


@functools.lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "UNKNOWN").split(maxsplit=1)[0].split("-")[0]


def _detected(sentence: str) -> str:
    found = _detector().detect_language_of(sentence)
    return "" if found is None else str(found.iso_code_639_1.name).lower()


@functools.lru_cache(maxsize=1)
def _detector() -> Any:
    """Loaded when first needed: the models take time and memory."""
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in _LATIN]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).with_low_accuracy_mode().build()
