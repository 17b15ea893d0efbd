"""What evaluations measure: pass@1, pass@k, maj@k and their confidence intervals, overall and by task source.

Tasks are the independent units, and not samples: the answers to one task resemble each other, so intervals follow from
how much tasks differ (Miller 2024, "Adding Error Bars to Evals", section 2.2).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from actors.events import SourceScores
from actors.replay.messages import CompletionVerdict
from sandbox import Status

#: Quantile of the normal distribution for an interval of 95 %.
Z = 1.959963984540054

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one task of an evaluation came to.

    Attributes:
        source: label of the task's source.
        scores: of its completions.
        tokens: of all its completions together.
        oldest, newest: policy versions of its tokens.
    """

    source: str
    scores: tuple[CompletionVerdict, ...]
    tokens: int
    oldest: int
    newest: int

    @property
    def accuracies(self) -> list[float]:
        """Of its completions, from 0 to 1."""
        return [score.parts.get("accuracy", score.reward) for score in self.scores]

    def state(self) -> list[Any]:
        """Everything, as MessagePack can hold it; `restored` takes it back."""
        scores = [score.model_dump() for score in self.scores]
        return [self.source, scores, self.tokens, self.oldest, self.newest]

    @classmethod
    def restored(cls, state: Sequence[Any]) -> "TaskResult":
        source, scores, tokens, oldest, newest = state
        return cls(source, tuple(map(CompletionVerdict.model_validate, scores)), tokens, oldest, newest)


def undecided(scores: Sequence[CompletionVerdict]) -> bool:
    """Whether no rule decides about a task, by the verdicts on its completions."""
    return all(score.status == Status.UNVERIFIED for score in scores)


def pass_at_k(accuracies: Sequence[float], k: int) -> float:
    """The best accuracy that k completions of a task can be expected to have, estimated without bias from n >= k.

    Where each is right or wrong, c of n right, it is 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, equation 1). With
    partial credit, a_1 >= a_2 >= …, it is the mean over all subsets of size k of the best in each:
    sum over i of a_i C(n - i, k - 1) / C(n, k).
    """
    n = len(accuracies)
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs {k} completions a task, and there are {n}")
    best = sorted(accuracies, reverse=True)
    return math.fsum(a * (math.comb(n - i, k - 1) / math.comb(n, k)) for i, a in enumerate(best, 1))


def maj_at_k(accuracies: Sequence[float], answers: Sequence[str | None]) -> float:
    """Accuracy of the most frequent answer to a task (the first among equals); no answer counts as one answer."""
    by_answer: dict[str | None, list[float]] = defaultdict(list)
    for answer, accuracy in zip(answers, accuracies, strict=True):
        by_answer[answer].append(accuracy)
    return fmean(by_answer[Counter(answers).most_common(1)[0][0]])


def interval(means: Sequence[float], samples: int = 1) -> Interval:
    """95 % confidence interval of the mean of what tasks came to, each from 0 to 1.

    It is Wilson's score interval (Wilson 1927) of a proportion p of m observations, where m is the effective sample
    size p (1 - p) / (s^2 / n) of n tasks with variance s^2, as surveys of clusters have it (Kish 1965; Dean and Pagano
    2015), and n x `samples` at most. Unlike p +- z s / sqrt(n) it is no point where all tasks are solved, or none.

    Args:
        means: of the tasks, each over its completions.
        samples: completions a task that a mean is over.
    """
    n, p = len(means), min(1.0, max(0.0, fmean(means)))
    spread = variance(means) / n if n > 1 else 0.0
    m = float(n)
    if 0.0 < p < 1.0:
        most = float(n * samples)
        m = min(most, p * (1 - p) / spread) if spread > 0 else most
    centre = (p + Z * Z / (2 * m)) / (1 + Z * Z / m)
    half = Z / (1 + Z * Z / m) * math.sqrt(p * (1 - p) / m + Z * Z / (4 * m * m))
    return max(0.0, centre - half), min(1.0, centre + half)


def scores(results: Sequence[TaskResult], k: int) -> SourceScores:
    """What an evaluation, or a part of it, came to.

    Args:
        results: of its tasks, at least one.
        k: completions a task.
    """
    accuracies = [result.accuracies for result in results]
    means = [fmean(each) for each in accuracies]
    best = [pass_at_k(each, k) for each in accuracies]
    answers = [[score.answer for score in result.scores] for result in results]
    majorities = [maj_at_k(a, said) for a, said in zip(accuracies, answers, strict=True)]
    return SourceScores(
        n=len(results),
        pass_at_1=fmean(means),
        pass_at_1_interval=interval(means, k),
        pass_at_k=fmean(best),
        pass_at_k_interval=interval(best),
        maj_at_k=fmean(majorities),
        maj_at_k_interval=interval(majorities),
        format=_mean_part(results, "format"),
        language=_mean_part(results, "language"),
        mean_length=sum(result.tokens for result in results) / sum(map(len, accuracies)),
    )


def by_source(results: Iterable[TaskResult], k: int) -> Mapping[str, SourceScores]:
    """The same for each task source, in the order of their labels."""
    found: dict[str, list[TaskResult]] = defaultdict(list)
    for result in results:
        found[result.source].append(result)
    return {source: scores(found[source], k) for source in sorted(found)}


def curve(results: Sequence[TaskResult], k: int) -> dict[int, float]:
    """pass@j for every power of two j below k, and for k."""
    return {j: fmean(pass_at_k(result.accuracies, j) for result in results) for j in (*_powers_of_two(k), k)}


def _powers_of_two(below: int) -> Iterator[int]:
    power = 1
    while power < below:
        yield power
        power *= 2


def _mean_part(results: Sequence[TaskResult], part: str) -> float | None:
    found = [score.parts[part] for result in results for score in result.scores if part in score.parts]
    return fmean(found) if found else None
