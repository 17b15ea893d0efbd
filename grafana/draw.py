"""Pictures of the dashboards from a Prometheus, by our own hand: what Grafana draws looks different.

    python -m grafana.draw   # beside `make monitoring`: the newest run there, from its beginning to its end

They show whether panels are placed well and have something to show, where no Grafana is at hand. One picture has the
width of a small laptop; in the other, of a telephone or a narrow window, panels stand below each other as in Grafana.
"""

import json
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib  # reasoning-gym brings it
import numpy as np
import typer
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter
from PIL import Image

from actors.cli import execute
from actors.errors import RunError

matplotlib.use("agg")
FOLDER = Path(__file__).parent
WIDTHS = (1366, 700)
#: From this width down Grafana shows one column (pixels).
NARROW = 768
#: Pixels of a row of the grid with its gap, of a margin, of an inch.
ROW, GAP, DPI = 38, 8, 100
#: Points of time in a picture, time between two scrapes (s), and how long ago a run may have been (s).
POINTS, SCRAPE, LOOK_BACK = 200, 5, 6 * 3600
PAPER, PANEL, INK, MUTED, BAD = "#f4f5f5", "#ffffff", "#24292e", "#6e7378", "#e02f44"
COLOURS = ("#3274d9", "#e0752d", "#37872d", "#8f3bb8", "#c4162a", "#19798f", "#b5a100", "#705da0")
#: Most names in a legend, and in a line of it; pixels of a letter and of a line.
NAMES, IN_LINE, LETTER, LINE = 8, 4, 4.4, 13
UNITS = {"percentunit": "share", "bool_yes_no": "1: yes", "Bps": "B/s", "reqps": "1/s"}
SECONDS = 30.0


@dataclass(frozen=True)
class Source:
    """Where values come from: a Prometheus, one run of it, a span of time (s)."""

    url: str
    run: str
    begin: float
    end: float

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, in which Grafana's variables stand."""
        span = self.end - self.begin
        step = max(span / POINTS, 1)
        window = max(4 * SCRAPE, step + SCRAPE)  # as Grafana chooses it
        values = {"$run": self.run, "$__rate_interval": f"{window:.0f}s", "$__range": f"{span:.0f}s"}
        for name, value in values.items():
            expression = expression.replace(name, value)
        return asked(self.url, query=expression, start=self.begin, end=self.end, step=step)


def asked(url: str, **query: str | float) -> list[dict[str, Any]]:
    """What the Prometheus at an address answers to a query over a span of time."""
    address = f"{url}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


@dataclass(frozen=True)
class Series:
    """One line: its name, and seconds since the beginning with their values."""

    name: str
    seconds: np.ndarray
    values: np.ndarray


def series(panel: dict[str, Any], source: Source) -> list[Series]:
    """Everything that a panel shows."""
    found = []
    for target in panel["targets"]:
        for one in source.ask(target["expr"]):
            times, values = np.array(one["values"], dtype=float).T
            found.append(Series(_named(target["legendFormat"], one["metric"]), times - source.begin, values))
    return [one for one in found if np.isfinite(one.values).any()]


def _named(legend: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return "" if legend == "__auto" else legend


def placed(
    panels: Sequence[dict[str, Any]], width: int
) -> list[tuple[dict[str, Any], tuple[float, float, float, float]]]:
    """Each panel with its left, top, width and height (pixels)."""
    column, found, top = (width - GAP) / 24, [], 0.0
    for panel in panels:
        grid = panel["gridPos"]
        if width > NARROW:
            found.append(
                (panel, (grid["x"] * column + GAP, grid["y"] * ROW, grid["w"] * column - GAP, grid["h"] * ROW - GAP))
            )
        else:
            found.append((panel, (GAP, top, width - 2 * GAP, grid["h"] * ROW - GAP)))
            top += grid["h"] * ROW
    return found


def picture(board: dict[str, Any], source: Source, width: int) -> Figure:
    """A dashboard at a width (pixels)."""
    head, places = 2 * ROW, placed(board["panels"], width)
    height = head + max(top + tall for _, (_, top, _, tall) in places) + GAP
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
    figure.text(GAP / width, 1 - 22 / height, board["title"], size=12, weight="bold", color=INK)
    note = f"{source.run} · seconds since it began · drawn by grafana/draw.py, not by Grafana"
    figure.text(GAP / width, 1 - 46 / height, note, size=7, color=MUTED)
    for panel, (left, top, wide, tall) in places:
        below = height - head - top - tall
        if panel["type"] == "row":
            figure.text(left / width, (below + 6) / height, panel["title"], size=9, weight="bold", color=INK)
            continue
        _frame(figure, panel, (left / width, below / height, wide / width, tall / height), 18 / height)
        space = (left + 50) / width, (below + 34) / height, (wide - 60) / width, (tall - 58) / height
        _draw(figure, panel, series(panel, source), space)
    return figure


def _frame(figure: Figure, panel: dict[str, Any], box: tuple[float, float, float, float], line: float) -> None:
    figure.add_axes(box, xticks=[], yticks=[], facecolor=PANEL).spines[:].set_color("#d8dce0")
    unit = _unit(panel)
    title = panel["title"] if unit == "short" else f"{panel['title']} ({UNITS.get(unit, unit)})"
    figure.text(box[0] + 0.006, box[1] + box[3] - line, title, size=7.5, color=INK)


def _draw(figure: Figure, panel: dict[str, Any], lines: list[Series], box: tuple[float, float, float, float]) -> None:
    left, bottom, wide, tall = box
    if not lines:
        figure.text(left + wide / 2, bottom + tall / 2, "no data", size=8, color=MUTED, ha="center")
        return
    if panel["type"] == "stat":
        last = lines[0].values[np.isfinite(lines[0].values)][-1]
        at = left + wide / 2 - 20 / figure.bbox.width  # the middle of the panel: there is no axis at its left
        figure.text(at, bottom + tall / 2, f"{last:.3g}", size=17, color=_colour(panel, last), ha="center", va="center")
        return
    columns = _columns(lines, wide * figure.bbox.width)
    rows = -(-min(len(lines), NAMES) // columns)
    up = (rows - 1) * LINE / figure.bbox.height if panel["type"] != "heatmap" else 0  # further lines of the legend
    axes = figure.add_axes((left, bottom + up, wide, tall - up), facecolor=PANEL)
    axes.tick_params(labelsize=6, colors=MUTED, length=2)
    axes.spines[:].set_visible(False)
    axes.grid(color="#e4e7eb", linewidth=0.5)
    if panel["type"] == "heatmap":
        _heatmap(axes, lines)
        return
    axes.yaxis.set_major_formatter(FuncFormatter(_percent if _unit(panel) == "percentunit" else _number))
    _lines(axes, panel, lines)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles[:NAMES],
        names[:NAMES],
        loc="lower left",
        bbox_to_anchor=(left - 0.01, bottom - 34 / figure.bbox.height),
        fontsize=5.5,
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        handlelength=1,
        columnspacing=1,
    )


def _lines(axes: Any, panel: dict[str, Any], lines: list[Series]) -> None:
    """Lines, or areas on top of each other, and the limits beyond which it is bad."""
    defaults = panel["fieldConfig"]["defaults"]
    if defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal":
        seconds = np.unique(np.concatenate([one.seconds for one in lines]))
        finite = [np.where(np.isfinite(one.values), one.values, 0) for one in lines]
        held = [np.interp(seconds, one.seconds, v, left=0, right=0) for one, v in zip(lines, finite, strict=True)]
        axes.stackplot(seconds, held, labels=[one.name for one in lines], colors=COLOURS, alpha=0.7)
    else:
        for colour, one in zip(COLOURS * len(lines), lines, strict=False):
            axes.plot(one.seconds, one.values, color=colour, linewidth=1, label=one.name)
    for step in defaults["thresholds"]["steps"][1:]:
        if axes.get_ylim()[1] >= step["value"] / 2:
            axes.axhline(step["value"], color=BAD, linewidth=0.8, linestyle="--")
    everything = np.concatenate([one.values[np.isfinite(one.values)] for one in lines])
    if not everything.any():
        axes.set_ylim(-0.03, 1)  # nothing but zeros is at the foot of the panel
    elif everything.min() >= 0:
        axes.set_ylim(bottom=0)


def _columns(lines: list[Series], wide: float) -> int:
    """In how many columns the names of a legend fit into so many pixels."""
    longest = max(len(one.name) for one in lines[:NAMES])
    return max(1, min(IN_LINE, int(wide / (LETTER * longest + 28))))


def _unit(panel: dict[str, Any]) -> str:
    unit: str = panel["fieldConfig"]["defaults"]["unit"]
    return unit


def _percent(value: float, _: int) -> str:
    return f"{100 * value:g}%"


def _number(value: float, _: int) -> str:
    """Plain where that is short: thousandths and millions have a letter."""
    return f"{value:.4g}" if value == 0 or 0.01 <= abs(value) < 10_000 else str(EngFormatter(sep="")(value))


def _heatmap(axes: Any, lines: list[Series]) -> None:
    """Counts by bucket: those of Prometheus hold all below their bound."""
    lines = sorted(lines, key=lambda one: float(one.name))
    seconds = np.unique(np.concatenate([one.seconds for one in lines]))
    held = np.zeros((len(lines), len(seconds)))
    for row, one in enumerate(lines):
        held[row, np.searchsorted(seconds, one.seconds)] = np.nan_to_num(one.values)
    counts = np.diff(held, axis=0, prepend=0)
    axes.pcolormesh(seconds, np.arange(len(lines)), counts, cmap="Oranges", shading="nearest")
    every = max(1, len(lines) // 6)
    axes.set_yticks(range(0, len(lines), every), [one.name for one in lines[::every]])


def _colour(panel: dict[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    if len(steps) == 1:
        return INK
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return BAD if reached[-1]["color"] == "red" else COLOURS[2]


def newest(url: str, now: float) -> Source:
    """The run that a Prometheus has seen last, from its first moment to its last.

    Raises:
        RunError: there is none within `LOOK_BACK`.
    """
    try:
        found = asked(url, query="leeway_run_info", start=now - LOOK_BACK, end=now, step=SCRAPE)
    except OSError as error:
        raise RunError(f"no Prometheus answers at {url} ({error}): `make monitoring` has one beside a run") from error
    spans = {one["metric"]["run"]: [float(moment) for moment, _ in one["values"]] for one in found}
    if not spans:
        raise RunError(f"the Prometheus at {url} has seen no run in the last {LOOK_BACK / 3600:g} h")
    run = max(spans, key=lambda name: spans[name][-1])
    return Source(url, run, spans[run][0], spans[run][-1])


def main(
    url: Annotated[str, typer.Argument(help="Address of the Prometheus.")] = "http://127.0.0.1:9090",
) -> None:
    """Draw every dashboard at every width into grafana/pictures, of the run that a Prometheus has seen last."""
    source = newest(url.rstrip("/"), time.time())
    (FOLDER / "pictures").mkdir(exist_ok=True)
    for path in sorted((FOLDER / "dashboards").glob("*.json")):
        for width in WIDTHS:
            to = FOLDER / "pictures" / f"{path.stem}-{width}.png"
            picture(json.loads(path.read_text()), source, width).savefig(to, dpi=DPI)
            Image.open(to).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(to, optimize=True)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    sys.exit(execute(app, "grafana.draw"))
