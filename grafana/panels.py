"""A panel: a question, the queries that answer it, and from which number on the answer is bad."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from actors.observability import thresholds

#: Width of the grid, and the height of panels in its rows.
COLUMNS, STAT_HEIGHT, GRAPH_HEIGHT = 24, 4, 8
OPERATIONS = "https://github.com/leeway-rl/leeway/blob/main/docs/operations.md"
#: Names of series, with or without a selector, that every target has with the label `run`.
_SERIES = re.compile(r"\b(leeway_\w+|process_\w+|vllm:\w+|up|ALERTS)\b(?![^{]*\})(\{[^}]*\})?")

Kind = Literal["graph", "stacked", "stat", "timeline", "heatmap"]


def of_run(expression: str) -> str:
    """The expression for the chosen run, so that none can forget to ask for it; `[W]` is the window of rates."""

    def select(match: re.Match[str]) -> str:
        matchers = [*filter(None, [(match[2] or "{}")[1:-1]]), 'run="$run"']
        return f"{match[1]}{{{', '.join(matchers)}}}"

    return _SERIES.sub(select, expression).replace("[W]", "[$__rate_interval]")


@dataclass(frozen=True)
class Query:
    """One expression of PromQL (without the selector of the run) and what its series are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Limit:
    """The number from which on, or below which, a panel shows something bad."""

    value: float
    bad: Literal["from", "below"] = "from"


def above(name: str) -> Limit:
    """Bad from a number of `actors.observability.thresholds` on."""
    return Limit(vars(thresholds)[name])


def below(name: str) -> Limit:
    """Bad below a number of `actors.observability.thresholds`."""
    return Limit(vars(thresholds)[name], "below")


#: Not a single one is in order.
NONE_IS_WELL = Limit(1)
#: A truth that must hold: 1 or 0.
MUST_HOLD = Limit(1, "below")


@dataclass(frozen=True)
class Panel:
    """What a panel shows.

    Attributes:
        title: what is shown, short enough for its width.
        description: what it means and what one looks for.
        unit: Grafana's name of the unit of all its queries.
        queries: see `Query`.
        kind: how it is drawn.
        width: in columns of the grid.
        limit: from where on it is bad; None where no value is bad by itself.
        runbook: heading of docs/operations.md that says what to do when it is bad.
        share: the values are shares: the axis goes from 0 to 1.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "graph"
    width: int = 8
    limit: Limit | None = None
    runbook: str | None = None
    share: bool = False

    @property
    def height(self) -> int:
        return STAT_HEIGHT if self.kind == "stat" else GRAPH_HEIGHT


@dataclass(frozen=True)
class Row:
    """Panels under one title."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard: `name` stands in its address and file name."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]

    @property
    def uid(self) -> str:
        return f"leeway-{self.name}"


def panel(
    title: str,
    unit: str,
    description: str,
    *queries: str | tuple[str, str],
    kind: Kind = "graph",
    width: int = 8,
    limit: Limit | None = None,
    runbook: str | None = None,
    share: bool = False,
) -> Panel:
    """A panel of queries, each an expression or one with the name of its series."""
    asked = tuple(Query(q) if isinstance(q, str) else Query(*q) for q in queries)
    return Panel(title, description, unit, asked, kind, width, limit, runbook, share)


def stat(
    title: str, unit: str, description: str, expression: str, limit: Limit | None = None, runbook: str | None = None
) -> Panel:
    """One number, six of which stand side by side."""
    return panel(title, unit, description, expression, kind="stat", width=4, limit=limit, runbook=runbook)


def quantiles(metric: str, by: str = "", shares: Iterable[float] = (0.5, 0.95)) -> tuple[tuple[str, str], ...]:
    """Quantiles of a histogram, also by a label."""
    labels = f"le, {by}" if by else "le"
    named = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (
            f"histogram_quantile({share}, sum by ({labels}) (rate({_of(metric, 'bucket')}[W])))",
            f"p{100 * share:g}{named}",
        )
        for share in shares
    )


def mean(metric: str, by: str = "") -> str:
    """The mean of what a histogram has seen, also by a label."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({_of(metric, 'sum')}[W])) / {grouped} (rate({_of(metric, 'count')}[W]))"


def _of(metric: str, part: str) -> str:
    """A part of a histogram, of which a selector of labels may follow the name."""
    name, bracket, labels = metric.partition("{")
    return f"{name}_{part}{bracket}{labels}"


def statistic(name: str) -> str:
    """A statistic of the latest optimizer step."""
    return f'max(leeway_step_statistic{{name="{name}"}})'


def statistics(*names: str) -> tuple[tuple[str, str], ...]:
    """Several of them, each under its name."""
    return tuple((statistic(name), name.replace("_", " ")) for name in names)
