"""Small charts as inline SVG: no script, colours from the page's style sheet, values on hover.

Every position on the horizontal axis has an invisible column; while the pointer is over it, the style sheet shows the
column's guide, dots and readout. `<title>` says the same to screen readers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from actors.report.markup import Html, concat, tag

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 560.0, 48.0, 12.0, 26.0, 24.0


@dataclass(frozen=True)
class Dot:
    """A value of a line.

    Attributes:
        x: place on the horizontal axis.
        y: the value.
        low: lower edge of the line's band.
        high: upper edge of the line's band.
        error: half the length of its error bar.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    error: float = 0.0


@dataclass(frozen=True)
class Line:
    """A series in a chart.

    Attributes:
        label: its name in the legend.
        colour: class of the style sheet (c1 to c5).
        dots: its values, from left to right.
        markers: whether each value gets a mark.
    """

    label: str
    colour: str
    dots: Sequence[Dot]
    markers: bool = False


@dataclass(frozen=True)
class Axes:
    """How a chart's axes read.

    Attributes:
        x_name: what the horizontal axis counts, in one word.
        x_text: a place on it as text.
        y_text: a value as text.
        y_min: lower end of the vertical axis; None: of the values.
        y_max: upper end of the vertical axis; None: of the values.
        height: height of the chart (px).
        marks: vertical rules as (place, text).
    """

    x_name: str
    x_text: Callable[[float], str]
    y_text: Callable[[float], str]
    y_min: float | None = None
    y_max: float | None = None
    height: float = 200.0
    marks: Sequence[tuple[float, str]] = field(default=())


def axis_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round values that cover [low, high]."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


class _Plane:
    """Maps values to places in the chart."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], axes: Axes) -> None:
        low = min(ys) if axes.y_min is None else axes.y_min
        high = max(ys) if axes.y_max is None else axes.y_max
        if high <= low:
            high = low + (abs(low) or 1.0)
        steps = axis_ticks(low, high)
        self.y_low = low if axes.y_min is not None else min(low, steps[0])
        self.y_high = high if axes.y_max is not None else high + 0.04 * (high - low)
        self.x_low, self.x_high = min(xs), max(xs)
        self.bottom = axes.height - BOTTOM

    def x(self, value: float) -> float:
        span = self.x_high - self.x_low
        share = (value - self.x_low) / span if span else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (min(max(value, self.y_low), self.y_high) - self.y_low) / (self.y_high - self.y_low)
        return self.bottom - share * (self.bottom - TOP)


def line_chart(name: str, lines: Sequence[Line], axes: Axes) -> Html:
    """Lines over a common horizontal axis; a note in their place if there are no values."""
    dots = [dot for line in lines for dot in line.dots]
    if not dots:
        return tag("p", "No values yet.", class_="empty")
    heights = [y for dot in dots for y in (dot.y - dot.error, dot.y + dot.error)]
    plane = _Plane([dot.x for dot in dots], heights, axes)
    parts = [_grid(plane, axes), *(_mark(plane, x, text) for x, text in axes.marks)]
    parts += [_plot(plane, line) for line in lines if line.dots]
    return _svg(name, axes.height, *parts, *_columns(plane, lines, axes))


def _svg(name: str, height: float, *parts: Html) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH:.0f} {height:.0f}", role="img", aria_label=name)


def _text(x: float, y: float, text: object, class_: str = "", anchor: str = "start") -> Html:
    return tag("text", text, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def _rule(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _grid(plane: _Plane, axes: Axes) -> Html:
    parts = []
    for value in axis_ticks(plane.y_low, plane.y_high):
        y = plane.y(value)
        parts += [_rule(LEFT, y, WIDTH - RIGHT, y, "grid"), _text(LEFT - 6, y + 4, axes.y_text(value), anchor="end")]
    return concat(*parts, _x_axis(plane, axes))


def _x_axis(plane: _Plane, axes: Axes) -> Html:
    steps = time_ticks(plane.x_low, plane.x_high) if axes.x_name == "time" else axis_ticks(plane.x_low, plane.x_high, 6)
    whole = [value for value in steps if axes.x_name == "time" or value == round(value)]
    baseline = _rule(LEFT, plane.bottom, WIDTH - RIGHT, plane.bottom, "axis")
    labels = [_text(plane.x(value), plane.bottom + 16, axes.x_text(value), anchor="middle") for value in whole]
    return concat(baseline, *labels)


def time_ticks(low: float, high: float) -> list[float]:
    """About six round times (s) that cover [low, high]."""
    units = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    step = next((unit for unit in units if (high - low) / unit <= 7), 86400 * math.ceil((high - low) / 86400 / 7))
    return [i * float(step) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _mark(plane: _Plane, x: float, text: str) -> Html:
    if not plane.x_low <= x <= plane.x_high:
        return Html()
    line = _rule(plane.x(x), TOP, plane.x(x), plane.bottom, "mark")
    return tag("g", tag("title", text), line)


def _plot(plane: _Plane, line: Line) -> Html:
    places = [(plane.x(dot.x), plane.y(dot.y)) for dot in line.dots]
    parts = []
    if any(dot.low is not None and dot.high is not None for dot in line.dots):
        upper = [(plane.x(dot.x), plane.y(dot.high if dot.high is not None else dot.y)) for dot in line.dots]
        lower = [(plane.x(dot.x), plane.y(dot.low if dot.low is not None else dot.y)) for dot in line.dots]
        parts.append(tag("path", d=_path([*upper, *reversed(lower)]) + "Z", class_="band"))
    parts.append(tag("path", d=_path(places), class_="line"))
    for dot, (x, y) in zip(line.dots, places, strict=True):
        if dot.error:
            parts.append(_rule(x, plane.y(dot.y - dot.error), x, plane.y(dot.y + dot.error), "error"))
        if line.markers or len(line.dots) == 1:
            parts.append(tag("circle", cx=x, cy=y, r=3.5))
    return tag("g", *parts, class_=line.colour)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def _columns(plane: _Plane, lines: Sequence[Line], axes: Axes) -> list[Html]:
    at: dict[float, list[tuple[Line, Dot]]] = {}
    for line in lines:
        for dot in line.dots:
            at.setdefault(dot.x, []).append((line, dot))
    xs = sorted(at)
    places = [plane.x(x) for x in xs]
    edges = [LEFT, *((a + b) / 2 for a, b in pairwise(places)), WIDTH - RIGHT]
    columns = []
    for i, x in enumerate(xs):
        values = " · ".join(
            f"{line.label + ' ' if len(lines) > 1 else ''}{axes.y_text(dot.y)}"
            + (f" ± {axes.y_text(dot.error)}" if dot.error else "")
            for line, dot in at[x]
        )
        where = axes.x_text(x) if axes.x_name == "time" else f"{axes.x_name} {axes.x_text(x)}"
        circles = [tag("circle", cx=places[i], cy=plane.y(dot.y), r=3.5, class_=line.colour) for line, dot in at[x]]
        columns.append(column(edges[i], edges[i + 1], plane.bottom, f"{where}: {values}", places[i], circles))
    return columns


def column(left: float, right: float, bottom: float, text: str, guide: float, parts: Sequence[Html] = ()) -> Html:
    """An invisible column that shows `text`, a guide and `parts` while the pointer is over it."""
    area = tag("rect", x=left, y=TOP - 6, width=max(right - left, 0.5), height=bottom - TOP + 6)
    shown = tag(
        "g", _rule(guide, TOP, guide, bottom, "guide"), *parts, _text(WIDTH - RIGHT, 14.0, text, "readout", "end")
    )
    return tag("g", tag("title", text), area, shown, class_="hover")


def histogram(name: str, bars: Sequence[tuple[str, float, str]], bound: int | None, height: float = 200.0) -> Html:
    """Bars of shares.

    Args:
        name: what the chart shows, for screen readers.
        bars: (label, share from 0 to 1, hover text) of each bar.
        bound: number of the bar, counted from 0, that a dashed line follows; None: no line.
        height: height of the chart (px).
    """
    bottom, width = height - BOTTOM, (WIDTH - LEFT - RIGHT) / max(len(bars), 1)
    top_share = max((share for _, share, _ in bars), default=0.0) or 1.0
    parts = [_rule(LEFT, bottom, WIDTH - RIGHT, bottom, "axis")]
    for i, (label, share, text) in enumerate(bars):
        x, tall = LEFT + i * width, (bottom - TOP - 18) * share / top_share
        thick = min(width * 0.72, 72.0)
        box = tag("rect", x=x + (width - thick) / 2, y=bottom - tall, width=thick, height=tall, rx=2, class_="bar")
        middle = x + width / 2
        above = f"{share * 100:.0f}%" if share >= 0.005 or not share else f"{share * 100:.1g}%"
        parts.append(tag("g", tag("title", text), box, _text(middle, bottom - tall - 5, above, "value", "middle")))
        parts.append(_text(middle, bottom + 16, label, anchor="middle"))
    if bound is not None and bound < len(bars):
        x = LEFT + (bound + 1) * width - 1
        parts += [_rule(x, TOP - 8, x, bottom, "limit"), _text(x - 5, TOP, f"bound {bound}", "limit", "end")]
    return _svg(name, height, *parts)


@dataclass(frozen=True)
class Lane:
    """One pool in a timeline.

    Attributes:
        label: name of the pool.
        colour: class of the style sheet (c1 to c5).
        spans: (start (s), end (s), share of it that the pool was busy) in order of time.
        mean: busy share over the run.
    """

    label: str
    colour: str
    spans: Sequence[tuple[float, float, float]]
    mean: float


LANE_WIDTH, LANE_LEFT, LANE_RIGHT, LANE_TALL, LANE_GAP = 1150.0, 84.0, 64.0, 44.0, 12.0


def timeline(
    name: str, lanes: Sequence[Lane], marks: Sequence[tuple[float, str, str]], x_text: Callable[[float], str]
) -> Html:
    """A lane a pool, filled as high as it was busy; a note in their place if there are no values.

    Args:
        name: what the chart shows, for screen readers.
        lanes: one for each pool, from top to bottom.
        marks: vertical rules as (time (s), class of the style sheet, hover text).
        x_text: a time (s) as text.
    """
    spans = [span for lane in lanes for span in lane.spans]
    if not spans:
        return tag("p", "No values yet.", class_="empty")
    start, end = min(span[0] for span in spans), max(span[1] for span in spans)
    scale = (LANE_WIDTH - LANE_LEFT - LANE_RIGHT) / ((end - start) or 1.0)

    def place(seconds: float) -> float:
        return LANE_LEFT + (min(max(seconds, start), end) - start) * scale

    bottom = TOP + len(lanes) * (LANE_TALL + LANE_GAP)
    parts = [_lane(lane, TOP + i * (LANE_TALL + LANE_GAP), place, x_text) for i, lane in enumerate(lanes)]
    for seconds, class_, text in marks:
        x = place(seconds)
        parts.append(tag("g", tag("title", text), _rule(x, TOP - 4, x, bottom - LANE_GAP + 4, class_)))
    labels = [_text(place(t), bottom + 12, x_text(t), anchor="middle") for t in time_ticks(start, end)]
    return tag("svg", *parts, *labels, viewBox=f"0 0 {LANE_WIDTH:.0f} {bottom + 20:.0f}", role="img", aria_label=name)


def _lane(lane: Lane, top: float, place: Callable[[float], float], x_text: Callable[[float], str]) -> Html:
    base = top + LANE_TALL
    parts = [
        _text(LANE_LEFT - 10, base - LANE_TALL / 2 + 4, lane.label, "value", "end"),
        tag("rect", x=LANE_LEFT, y=top, width=LANE_WIDTH - LANE_LEFT - LANE_RIGHT, height=LANE_TALL, class_="track"),
    ]
    for start, end, share in lane.spans:
        left, wide, tall = place(start), max(place(end) - place(start), 0.6), LANE_TALL * share
        text = f"{lane.label}, {x_text(start)} to {x_text(end)}: {share * 100:.0f}% busy"
        hit = tag("rect", x=left, y=top, width=wide, height=LANE_TALL, class_="hit")
        fill = tag("rect", x=left, y=base - tall, width=wide + 0.3, height=tall, class_="fill")
        readout = _text(LANE_WIDTH - LANE_RIGHT, 14.0, text, "readout", "end")
        parts.append(tag("g", tag("title", text), fill, hit, readout, class_="span"))
    parts.append(_text(LANE_WIDTH - LANE_RIGHT + 10, base - LANE_TALL / 2 + 4, f"{lane.mean * 100:.0f}%", "value"))
    return tag("g", *parts, class_=lane.colour)
