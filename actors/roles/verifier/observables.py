"""What completions show beside their rewards: thoughts and answer apart, reflection, languages, format.

Everything is one pass over a response or a few, and no more than `MOST_CHARACTERS` of it are looked at: some
microseconds a character, whatever a model writes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from actors.config.recipe import Recipe
from actors.observability import metrics
from actors.report import statistics as names
from sandbox import Submission, Verdict
from sandbox.language import scripts
from sandbox.rewards import FORMATS

#: Of a response, which is as long as the longest reasoning that models are trained on; the rest is not looked at.
MOST_CHARACTERS = 200_000
#: Words below which nothing is said of a language: variables and names look like words.
MIN_WORDS = 3
#: A response with at least this share of its words in one language is in one language: names and terms are the rest.
ONE_LANGUAGE = 0.95
#: Highlights that are kept of a response, for the few samples that people read.
MOST_HIGHLIGHTS = 64
_TAG = re.compile(r"</?(?:think|answer)>")
#: Of scripts that set no spaces between words, or in which a word goes on with what belongs to it.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NOTHING = "(?!)"
#: What a response may be or not be, by its label in the metrics.
_TRAITS = {
    "in_format": names.FORMAT_RATE,
    "reflects": names.REFLECTION_RATE,
    "mixes_languages": names.LANGUAGE_MIXING,
}
assert _TRAITS.keys() == set(metrics.TRAITS)


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen in one completion.

    Attributes:
        values: by the name of the statistic whose mean they make; what cannot be said of this one is absent.
        reflections: where its first words of reflection stand (first character, one after the last).
    """

    values: dict[str, float] = field(default_factory=dict)
    reflections: list[tuple[int, int]] = field(default_factory=list)


class Observer:
    """Looks at completions as the recipe says."""

    def __init__(self, recipe: Recipe) -> None:
        self._reflection = _pattern(recipe.observables.words)
        self._format = asked_format(recipe)

    def __call__(self, submission: Submission, verdict: Verdict) -> Observation:
        """What a completion shows."""
        text = submission.response[:MOST_CHARACTERS]
        values, reflections = _tokens(text, submission, self._format == "r1_zero"), list[tuple[int, int]]()
        if self._format != "none":
            scored = verdict.parts.get("format")
            values[names.FORMAT_RATE] = FORMATS[self._format](text) if scored is None else scored
        written = scripts(text)
        if (words := written.total()) >= MIN_WORDS:
            target = verdict.parts.get("language")
            alike = max(written.values()) / words
            mixed = alike < ONE_LANGUAGE or (target is not None and 1 - ONE_LANGUAGE < target < ONE_LANGUAGE)
            values[names.LANGUAGE_CONSISTENCY] = alike if target is None else target
            values[names.LANGUAGE_MIXING] = float(mixed)
            reflections = [match.span() for match in self._reflection.finditer(text)]
            values[names.REFLECTION_WORDS] = float(len(reflections))
            values[names.REFLECTION_RATE] = float(bool(reflections))
        return Observation(values, reflections[:MOST_HIGHLIGHTS])


def asked_format(recipe: Recipe) -> Literal["none", "r1_zero", "boxed"]:
    """The format that is rewarded; where none is, the one that every prompt asks for."""
    if recipe.rewards.format != "none":
        return recipe.rewards.format
    if recipe.tasks.template == "r1_zero":
        return "r1_zero"
    asked = {source.model_dump().get("answer") for source in recipe.tasks.sources}  # not every source asks for a form
    return "boxed" if asked == {"boxed"} else "none"


def _tokens(text: str, submission: Submission, tagged: bool) -> dict[str, float]:
    """Tokens of thoughts and answer, by their shares of the characters; nothing where no thoughts are marked."""
    thoughts, end, answer = text.partition("</think>")
    if not end and not (text.lstrip().startswith("<think>") or (tagged and submission.truncated)):
        return {}
    before, after = (len(_TAG.sub("", part)) for part in (thoughts, answer))
    share = before / (before + after) if before + after else 1.0
    return {
        names.THINKING_TOKENS: submission.length * share,
        names.ANSWER_TOKENS: submission.length * (1 - share),
    }


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Matches the words and phrases, the longest first; time is linear, since no repetition in it is open."""
    listed = sorted(set(words), key=lambda word: (-len(word), word))
    spaced = [word for word in listed if not _UNSPACED.match(word)]
    unspaced = [word for word in listed if _UNSPACED.match(word)]
    either = [rf"{_first(spaced)}(?<!\w)(?:{_any(spaced)})(?!\w)"] if spaced else []
    either += [f"{_first(unspaced)}(?:{_any(unspaced)})"] if unspaced else []
    return re.compile("|".join(either) or _NOTHING, re.IGNORECASE)


def _any(words: Iterable[str]) -> str:
    return "|".join(r"\s{1,3}".join(map(re.escape, word.split())) for word in words)


def _first(words: Iterable[str]) -> str:
    """That a word may begin here: most places are passed over by it."""
    return f"(?=[{''.join(sorted({re.escape(word[0]) for word in words}))}])"


def count(values: Iterable[Mapping[str, float]]) -> None:
    """Count what was seen in the completions of a training group in the metrics of this process."""
    for seen in values:
        for part, name in (("thoughts", names.THINKING_TOKENS), ("answer", names.ANSWER_TOKENS)):
            if name in seen:
                metrics.RESPONSE_TOKENS.labels(part).observe(seen[name])
        for trait, name in _TRAITS.items():
            if name in seen:
                metrics.RESPONSES.labels(trait, "yes" if seen[name] >= 1 else "no").inc()
        if names.REFLECTION_WORDS in seen:
            metrics.REFLECTION.observe(seen[names.REFLECTION_WORDS])
        if names.LANGUAGE_CONSISTENCY in seen:
            metrics.CONSISTENCY.observe(seen[names.LANGUAGE_CONSISTENCY])
