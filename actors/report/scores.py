"""The table of an evaluation: a line for all tasks, and one for each of their sources."""

from rich.table import Table

from actors.report.summary import Accuracy, Estimates
from actors.report.text import visible
from actors.report.units import number, percent


def table(done: Accuracy) -> Table:
    """pass@1, pass@k and maj@k with their 95 % confidence intervals, and what else was measured."""
    found = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("tasks of", "n", "pass@1", f"pass@{done.k}", f"maj@{done.k}", "format", "language", "tokens"):
        found.add_column(column, justify="left" if column == "tasks of" else "right", no_wrap=True)
    lines: dict[str, Estimates] = dict(done.by_source)
    if len(lines) != 1:
        lines["all sources"] = done
    for source, scores in lines.items():
        shares = [_with_interval(scores, name) for name in ("pass_at_1", "pass_at_k", "maj_at_k")]
        rest = [percent(scores.format), percent(scores.language), number(scores.mean_length)]
        found.add_row(visible(source), str(scores.n), *shares, *rest)
    return found


def _with_interval(scores: Estimates, name: str) -> str:
    value, interval = getattr(scores, name), getattr(scores, f"{name}_interval")
    text = percent(value, 1)
    return f"{text} [{percent(interval[0])}, {percent(interval[1])}]" if interval else text
