"""The rows of evaluations: one for each task source and one for all, as a terminal's table and as a page's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.table import Table

from actors.events import EvaluationDone, SourceScores
from actors.report.summary import Accuracy, Estimates
from actors.report.text import visible
from actors.report.units import number, percent

ALL = "all sources"


class ScoreRow(NamedTuple):
    """What one evaluation says of one task source, as people read it."""

    evaluation: str
    source: str
    n: str
    pass_at_1: str
    pass_at_k: str
    maj_at_k: str
    format: str
    language: str
    tokens: str


def table(done: Accuracy, before: Accuracy | None = None) -> Table:
    """pass@1, pass@k and maj@k with their 95 % confidence intervals, and what else was measured.

    Args:
        done: the evaluation.
        before: one of the same tasks whose pass@1 stands beside it, where there is one.
    """
    found = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    earlier = dict(_by_source(before)) if before is not None and before.n is not None else {}
    names = ["tasks of", "n", "pass@1", f"pass@{done.k}", f"maj@{done.k}", "format", "language", "tokens"]
    if earlier:
        names.insert(2, "before")
    for column in names:
        found.add_column(column, justify="left" if column == "tasks of" else "right", no_wrap=True)
    for source, scores in _by_source(done):
        _, *cells = _row("", source, scores)
        if earlier:
            first = earlier.get(source, Estimates())
            cells.insert(2, with_interval(first.pass_at_1, first.pass_at_1_interval))
        found.add_row(*cells)
    return found


def rows(evaluations: Sequence[EvaluationDone]) -> list[ScoreRow]:
    """Every source of every evaluation, in their order."""
    return [_row(done.name, source, scores) for done in evaluations for source, scores in _by_source(done)]


def with_interval(share: float | None, interval: tuple[float, float] | None) -> str:
    """A share and, where it has one, its confidence interval."""
    text = percent(share, 1)
    return f"{text} [{percent(interval[0])}, {percent(interval[1])}]" if interval else text


def _by_source(done: Accuracy | EvaluationDone) -> Iterator[tuple[str, Estimates | SourceScores]]:
    """The sources by name and, unless a single one says it all, all of them together."""
    of_source: Mapping[str, Estimates | SourceScores] = done.by_source
    yield from of_source.items()
    if len(of_source) != 1:
        yield ALL, done


def _row(evaluation: str, source: str, scores: Estimates | SourceScores) -> ScoreRow:
    return ScoreRow(
        evaluation,
        visible(source),
        str(scores.n),
        with_interval(scores.pass_at_1, scores.pass_at_1_interval),
        with_interval(scores.pass_at_k, scores.pass_at_k_interval),
        with_interval(scores.maj_at_k, scores.maj_at_k_interval),
        percent(scores.format),
        percent(scores.language),
        number(scores.mean_length),
    )
