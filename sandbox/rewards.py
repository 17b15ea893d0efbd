"""The parts of a reward besides accuracy, and their weighted sum."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from sandbox.config import RewardConfig
from sandbox.extraction import last_boxed
from sandbox.language import consistency
from sandbox.verdict import Submission

_R1_ZERO = re.compile(r"(?:<think>)?(?P<think>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>", re.DOTALL)
_BOX = re.compile(r"\\boxed\s*\{")
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def parts_of(submission: Submission, accuracy: float | None, config: RewardConfig) -> dict[str, float]:
    """The unweighted parts of a submission's reward that `config` asks for; without `accuracy` where it is None."""
    parts = {} if accuracy is None else {"accuracy": accuracy}
    if config.format != "none":
        parts["format"] = FORMATS[config.format](submission.response)
    if config.language is not None:
        parts["language"] = consistency(submission.response, config.language)
    if config.overlong_max_tokens is not None:
        parts["overlong"] = overlong(
            submission.length, submission.truncated, config.overlong_max_tokens, config.overlong_cache_tokens
        )
    if config.repetition_ngram is not None:
        parts["repetition"] = repetition(submission.response, config.repetition_ngram)
    return parts


def weighted(parts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The reward: Σ weight · part, over the parts that have a weight."""
    return float(sum(weights.get(name, 0.0) * value for name, value in parts.items()))


def r1_zero_format(response: str) -> float:
    """1 if the response is `<think>…</think><answer>…</answer>` with both filled and no tag twice, else 0.

    The opening `<think>` may be missing, because templates commonly end the prompt with it. Source: DeepSeek-R1,
    section 2.2 (template of DeepSeek-R1-Zero).
    """
    # Counting first keeps the match linear in the length of the response.
    if any(response.count(tag) > 1 for tag in _TAGS):
        return 0.0
    match = _R1_ZERO.fullmatch(response.strip())
    if match is None:
        return 0.0
    return float(bool(match["think"].strip()) and bool(match["answer"].strip()))


def boxed_format(response: str) -> float:
    r"""1 if the response has exactly one `\boxed{…}`, closed and filled, else 0."""
    boxes = list(itertools.islice(_BOX.finditer(response), 2))
    return float(len(boxes) == 1 and bool((last_boxed(response[boxes[0].start() :]) or "").strip()))


FORMATS = {"r1_zero": r1_zero_format, "boxed": boxed_format}


def overlong(length: int, truncated: bool, max_tokens: int, cache_tokens: int) -> float:
    """DAPO's soft overlong punishment (equation 13): 0, then falling linearly over the last `cache_tokens` to -1."""
    if truncated or length > max_tokens:
        return -1.0
    return min(0.0, (max_tokens - cache_tokens - length) / cache_tokens)


def repetition(response: str, ngram: int) -> float:
    """Minus the share of word n-grams that occurred before: 0 without repetition, towards -1 for a loop.

    Source: the n-gram repetition penalty of "Demystifying Long Chain-of-Thought Reasoning in LLMs" (2025).
    """
    words = response.split()
    total = len(words) - ngram + 1
    if total < 2:
        return 0.0
    distinct = len({tuple(words[index : index + ngram]) for index in range(total)})
    return distinct / total - 1.0
