"""The charts of a run's page: what each shows, as data that `assets/page.js` draws by uPlot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite, sqrt
from typing import Any, Literal

from actors.observability.metrics import BANDS
from actors.report import statistics as names
from actors.report.series import Point, Series
from actors.report.state import RunState
from actors.report.text import visible
from actors.report.units import percent

Unit = Literal["share", "number", "duration"]
Kind = Literal["line", "area", "bars", "dots", "pile"]
#: Points of a chart: more cannot be told apart at its width.
POINTS = 240
#: Versions behind that the histogram has a bar for.
MOST_BARS = 64
WHOLE_SHARES = {names.MIXED_GROUPS, "effective_sample_size"}  # plotted from 0 to 100 %
SHARES = WHOLE_SHARES | {
    names.TRUNCATED,
    "clip_fraction_low",
    "clip_fraction_high",
    "masked_fraction",
    "mfu",
    "mixed_groups_fraction",
}
#: The statistics in which a collapse is seen early.
POLICY = (names.RESPONSE_LENGTH, names.ENTROPY, names.LOGPROB_DIFFERENCE, names.MIXED_GROUPS, names.TRUNCATED)
#: The part of the page that shows how the policy thinks has these, by a chart: title, note, unit, lines as (label,
#: colour, statistic). A chart is there as soon as the run has the statistic of its first line.
REASONING: Mapping[str, tuple[str, str, Unit, tuple[tuple[str, int, str], ...]]] = {
    "thinking": (
        "Thinking time",
        "Tokens of a response before and after </think>, on average, of the responses that mark their thoughts.",
        "number",
        (("thoughts", 1, names.THINKING_TOKENS), ("answer", 2, names.ANSWER_TOKENS)),
    ),
    "reflection": (
        "Words of reflection",
        "How often a response looks back at what it wrote (“wait”, “however”, “check”, …), on average.",
        "number",
        (("words a response", 4, names.REFLECTION_WORDS),),
    ),
    "reflecting": (
        "Responses that reflect",
        "Share of the responses with at least one word of reflection.",
        "share",
        (("reflecting", 4, names.REFLECTION_RATE),),
    ),
    "language": (
        "Languages",
        "Mixing: share of the responses with more than one word in twenty in another language. Consistency: mean share "
        "of the words that are in one language.",
        "share",
        (("mixing", 3, names.LANGUAGE_MIXING), ("consistency", 2, names.LANGUAGE_CONSISTENCY)),
    ),
    "format": (
        "Format",
        "Share of the responses in the format that the run asks for.",
        "share",
        (("in the format", 2, names.FORMAT_RATE),),
    ),
    "difficulty": (
        "How often tasks are solved",
        "Shares of the groups by how many of their completions are right. Only groups between never and always teach.",
        "share",
        tuple(
            (band, colour, f"{names.DIFFICULTY}{band}")
            for band, colour in zip(reversed(BANDS), (2, 5, 1, 4, 3), strict=True)
        ),
    ),
}
#: Statistics that are in those charts.
REASONING_STATISTICS = frozenset(name for *_, lines in REASONING.values() for _, _, name in lines)
#: Prefixes of statistics that share a chart: a line each.
IN_PARTS = (names.REWARD_PART, names.SOURCE_REWARD, names.SOURCE_LENGTH)
#: Charts of them that show where something was seen first.
MARKED = ("thinking", "reflection", "reflecting")
ROLE_COLOURS = {"generator": 1, "verifier": 2, "learner": 3, "scorer": 4}
RATE_COLOURS = {"generation": 1, "learning": 3}


@dataclass(frozen=True)
class Line:
    """A series of a chart: its values by their place on the horizontal axis.

    Attributes:
        label: its name in the legend.
        colour: number of the style sheet's colour (1 to 5).
        values: (place, value, low, high) from left to right; low and high are the edges of its band.
    """

    label: str
    colour: int
    values: Sequence[tuple[float, float, float | None, float | None]]


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: what it shows, in a few words.
        note: a sentence or two more.
        x: what the horizontal axis counts; times are in seconds.
        unit: of the values.
        lines: its series.
        low: lower end of the vertical axis; None: of the values.
        high: upper end of the vertical axis; None: of the values.
        kind: how a value is drawn; in a pile each line stands on those after it.
        marks: vertical rules as (place, text).
    """

    title: str
    note: str
    x: Literal["step", "version", "time", "age"]
    unit: Unit
    lines: Sequence[Line]
    low: float | None = None
    high: float | None = None
    kind: Kind = "line"
    marks: Sequence[tuple[float, str]] = ()

    def plotted(self) -> dict[str, Any]:
        """As uPlot takes it: one column of places, and for each line columns of values, lower and upper edges."""
        shown = dict(vars(self))
        xs = sorted({value[0] for line in self.lines for value in line.values})
        shown["xs"] = xs
        shown["lines"] = [_plotted(line, xs) for line in self.lines]
        shown["marks"] = [(x, visible(text)) for x, text in self.marks]
        return shown


def _plotted(line: Line, xs: Sequence[float]) -> dict[str, Any]:
    at = {value[0]: value[1:] for value in line.values}
    columns = [[_finite(at[x][i]) if x in at else None for x in xs] for i in range(3)]
    band = any(value is not None for value in chain(columns[1], columns[2]))
    return {
        "label": visible(line.label),
        "colour": line.colour,
        "ys": columns[0],
        "band": columns[1:] if band else None,
    }


def _finite(value: float | None) -> float | None:
    """JSON has no NaN; six digits are more than a screen shows."""
    return float(f"{value:.6g}") if value is not None and isfinite(value) else None


def charts(state: RunState) -> dict[str, Chart]:
    """Every chart of the page by its name; those of the pools and of the statistics are as many as the run has."""
    found = {
        "accuracy": _accuracy(state),
        names.REWARD: _statistic(state, names.REWARD),
        "staleness": _staleness(state),
        "staleness_mean": Chart(
            "Mean age by step", "In versions.", "step", "number", [Line("mean", 1, _by_step(state.staleness_mean))], 0.0
        ),
        "tokens": _tokens(state),
        "queues": _queues(state),
        "weights": _weights(state),
        "step_seconds": Chart(
            "Learner step",
            "Time of an optimizer step, without waiting for its batch.",
            "step",
            "duration",
            [Line("step", 3, _by_step(state.step_seconds))],
            0.0,
        ),
    }
    parts = sorted(name for name in list(state.statistics) if name.startswith(names.REWARD_PART))
    if len(parts) > 1:  # one alone says no more than the reward
        found["reward_parts"] = _reward_parts(state, parts)
    for prefix, name in ((names.SOURCE_REWARD, "sources/reward"), (names.SOURCE_LENGTH, "sources/length")):
        if any(each.startswith(prefix) for each in list(state.statistics)):
            found[name] = _sources(state, prefix)
    for role, series in _known_first(state.busy, ROLE_COLOURS):
        found[f"busy/{role}"] = _busy(state, role, series)
    found |= {f"reasoning/{name}": _reasoning(state, name) for name in REASONING if _has(state, name)}
    for name in sorted(state.statistics.keys() - REASONING_STATISTICS):
        if name != names.REWARD and not name.startswith(IN_PARTS):
            found[f"statistic/{name}"] = _statistic(state, name)
    return found


def _accuracy(state: RunState) -> Chart:
    done = sorted(state.evaluations, key=lambda each: each.version)
    lines = [Line("pass@1", 1, [(e.version, e.pass_at_1, *_within_error(e.pass_at_1, e.n)) for e in done])]
    majority = [(e.version, e.maj_at_k, None, None) for e in done if e.maj_at_k is not None and e.k > 1]
    if majority:
        lines.append(Line(f"maj@{max(e.k for e in done)}", 2, majority))
    note = "On problems that are never trained on. Shaded: one standard error."
    return Chart("Held-out accuracy", note, "version", "share", lines, 0.0, 1.0, "dots")


def _within_error(share: float, n: int) -> tuple[float, float]:
    error = sqrt(max(0.0, share * (1 - share)) / n)
    return max(0.0, share - error), min(1.0, share + error)


def _reward_parts(state: RunState, parts: Sequence[str]) -> Chart:
    note = "Means over the trained groups, before their weights."
    if (model := state.reward_model) is not None:
        right = f"{percent(model.accuracy)} of {model.held_out} held-out pairs"
        note += f" The reward model puts {right} in the right order."
    lines = [
        Line(name.removeprefix(names.REWARD_PART), 1 + i % 5, _by_step(state.statistics[name]))
        for i, name in enumerate(parts)
    ]
    return Chart("Parts of the reward", note, "step", "number", lines)


def _sources(state: RunState, prefix: str) -> Chart:
    """A statistic of each task source."""
    title = "Training reward by task source" if prefix == names.SOURCE_REWARD else "Response length by task source"
    note = "Means over the rollouts that were verified since the step before, dropped groups included."
    shown = sorted(name for name in list(state.statistics) if name.startswith(prefix))
    lines = [
        Line(name.removeprefix(prefix), 1 + i % 5, _by_step(state.statistics[name])) for i, name in enumerate(shown)
    ]
    return Chart(title, note, "step", "number", lines, 0.0 if prefix == names.SOURCE_LENGTH else None)


def _has(state: RunState, name: str) -> bool:
    *_, lines = REASONING[name]
    return lines[0][2] in state.statistics


def _reasoning(state: RunState, name: str) -> Chart:
    title, note, unit, parts = REASONING[name]
    lines = [Line(label, colour, _by_step(state.statistics.get(of, Series()))) for label, colour, of in parts]
    high: float | None = 1.0 if unit == "share" else None
    kind: Kind = "pile" if name == "difficulty" else "line"
    return Chart(title, note, "step", unit, lines, 0.0, high, kind, _firsts(state, name))


def _firsts(state: RunState, name: str) -> list[tuple[float, str]]:
    """Where something was seen first; what is new in one step shares a rule."""
    steps: dict[int, list[str]] = {}
    for first in state.firsts.values() if name in MARKED else ():
        steps.setdefault(first.step, []).append(first.what)
    return [(step, f"first {', '.join(sorted(what))}") for step, what in sorted(steps.items())]


def _staleness(state: RunState) -> Chart:
    bound, total = state.info.max_staleness, state.trained_tokens
    ages = range(min(max([bound, *state.staleness]) + 1, MOST_BARS))
    values = [(age, state.staleness[age] / total if total else 0.0, None, None) for age in ages] if total else []
    marks = [(bound + 0.5, f"bound {bound}")] if bound < MOST_BARS else []
    note = "Share of the trained tokens, by versions behind the learner when the step was taken."
    return Chart(
        "Staleness of the trained tokens",
        note,
        "age",
        "share",
        [Line("tokens", 1, values)],
        0.0,
        kind="bars",
        marks=marks,
    )


def _busy(state: RunState, role: str, series: Series) -> Chart:
    marks = [(done.seconds, f"evaluation {done.name}") for done in state.evaluations]
    marks += [(restart.seconds, f"restart of {restart.member}") for restart in list(state.last_restarts)]
    line = Line(role, ROLE_COLOURS.get(role, 5), _by_time(series))
    mean = f"{percent(state.busy_share(role))} of the time on average"
    return Chart(role.capitalize(), mean, "time", "share", [line], 0.0, 1.0, "area", marks)


def _tokens(state: RunState) -> Chart:
    lines = [
        Line(kind, RATE_COLOURS.get(kind, 5), _by_time(series))
        for kind, series in _known_first(state.rates, RATE_COLOURS)
    ]
    return Chart("Tokens a second", "Generated, and trained on.", "time", "number", lines, 0.0)


def _queues(state: RunState) -> Chart:
    lines = [Line(name, 1 + i % 5, _by_time(series)) for i, (name, series) in enumerate(sorted(state.queues.items()))]
    return Chart("Queues", "Groups that wait. A full queue shows who is too slow.", "time", "number", lines, 0.0)


def _weights(state: RunState) -> Chart:
    parts = [("transfer", 1, state.transfer), ("pause", 3, state.pause), ("total", 5, state.sync_total)]
    lines = [Line(label, colour, _by_step(series)) for label, colour, series in parts]
    members = f"to {state.sync_members} generator{'' if state.sync_members == 1 else 's'}"
    return Chart("Weight updates", f"By policy version, {members}.", "version", "duration", lines, 0.0)


def _statistic(state: RunState, name: str) -> Chart:
    about, series = names.describe(name), state.statistics.get(name, Series())
    low = 0.0 if all(point.low >= 0 for point in series) else None
    title = f"{about.label} ({about.unit})" if about.unit not in ("", "share") else about.label
    unit: Unit = "share" if name in SHARES else "number"
    high = 1.0 if name in WHOLE_SHARES else None
    return Chart(title, about.meaning, "step", unit, [Line(about.label, 1, _by_step(series))], low, high)


def _by_step(series: Series) -> list[tuple[float, float, float | None, float | None]]:
    return [(point.step, point.value, *_edges(point)) for point in series.thinned(POINTS)]


def _by_time(series: Series) -> list[tuple[float, float, float | None, float | None]]:
    return [(round(point.seconds, 1), point.value, None, None) for point in series.thinned(POINTS)]


def _edges(point: Point) -> tuple[float | None, float | None]:
    return (point.low, point.high) if point.count > 1 else (None, None)


def _known_first(series: Mapping[str, Series], order: Iterable[str]) -> list[tuple[str, Series]]:
    ranks = list(order)
    return sorted(series.items(), key=lambda item: (ranks.index(item[0]) if item[0] in ranks else len(ranks), item[0]))
