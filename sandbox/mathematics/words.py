"""Answers in words: phrases with a mathematical meaning, options of a question, names and other words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.mathematics.text import squeezed
from sandbox.mathematics.vocabulary import function_in


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, or a phrase with a mathematical meaning in its one spelling."""

    text: str


@dataclass(frozen=True, slots=True)
class Choice:
    """An option of a question, perhaps with what it says."""

    letter: str
    text: str = ""


_PHRASES = {
    "nosolution": "∅", "nosolutions": "∅", "nosolutionexists": "∅", "norealsolution": "∅", "norealsolutions": "∅",
    "none": "∅", "emptyset": "∅", "theemptyset": "∅", "\\emptyset": "∅", "\\{\\}": "∅",
    "doesnotexist": "DNE", "dne": "DNE", "undefined": "undefined", "notdefined": "undefined",
    "allrealnumbers": "ℝ", "allreals": "ℝ", "\\mathbb{r}": "ℝ", "realnumbers": "ℝ", "infinite": "\\infty",
    "\\mathbb{r}^+": "ℝ+", "\\mathbb{r}^{+}": "ℝ+", "\\mathbb{r}_+": "ℝ+", "\\mathbb{r}_{>0}": "ℝ+",
    "anyrealnumber": "ℝ", "thesetofallrealnumbers": "ℝ", "therealnumbers": "ℝ",
}  # fmt: skip
_WORDS = re.compile(r"[a-zA-Z][a-zA-Z' -]*[a-zA-Z]")
_CHOICE = re.compile(r"\(?([A-J])[).:]*|\[([A-J])\]")
_CHOICE_WITH_TEXT = re.compile(r"(?:\(([A-J])\)[.:]?\s*|([A-J])\s*\)\s*|([A-J])[.:]\s+)(\S.*)")
_ANOTHER = re.compile(r"\([A-J]\)|\b[A-J]\)|[A-J][.:]")
_OPTION = re.compile(r"(?:the )?(?:option|choice|answer)\s*:?\s*", re.IGNORECASE)
_SHORT = frozenset({"yes", "no", "odd", "even", "one", "two", "six", "ten", "red"})


def as_phrase(text: str) -> Words | None:
    """A phrase with a mathematical meaning."""
    phrase = _PHRASES.get(squeezed(text).lower())
    return None if phrase is None else Words(phrase)


def as_words(text: str) -> Words | None:
    """Words; None if the text is none, or may be a product of variables."""
    if not _WORDS.fullmatch(text) or _OPTION.match(text) or _may_be_product(text):
        return None
    return Words(" ".join(text.split()))


def same_words(wanted: str, found: str) -> bool:
    """Whether words are the same. Only words in ordinary spelling are the same in capitals: `nT` is not `Nt`."""
    if wanted == found:
        return True
    if wanted.lower() != found.lower():
        return False
    return all(map(_same_word, wanted.split(), found.split()))


def _same_word(wanted: str, found: str) -> bool:
    ordinary = all(word.islower() or word.istitle() or word.isupper() for word in (wanted, found))
    if wanted == found or (wanted.lower() in _SHORT and ordinary):
        return True
    return ordinary and (len(wanted) > 3 or (len(wanted) == 3 and not (wanted.isupper() or found.isupper())))


def _may_be_product(text: str) -> bool:
    """Whether letters may be variables next to each other, or functions of them, rather than a word."""
    for run in re.split(r"[ '-]+", text):
        if run.lower() in _SHORT or (len(run) > 2 and run.isupper()):
            return False
        if len(run) <= 2 and not run.isupper():
            continue
        if function_in(run) is not None:
            continue
        if not (len(run) <= 4 and run.islower() and re.fullmatch(r"[a-d]+|[^aeiou]+|[^eiou]*[xyz][^eiou]*", run)):
            return False
    return True


def as_choice(text: str) -> Choice | None:
    """`C`, `(C)`, `Option C`, `(C) 12` or `C. 12`."""
    rest = text[option.end() :] if (option := _OPTION.match(text)) is not None else text
    if (bare := _CHOICE.fullmatch(rest)) is not None:
        return Choice(bare[1] or bare[2])
    said = _CHOICE_WITH_TEXT.fullmatch(rest)
    if said is None or as_choice(said[4]) is not None or _ANOTHER.search(said[4]):
        return None
    return Choice(said[1] or said[2] or said[3], said[4])
