"""The sections of the report, from the state of a run to markup."""

from collections.abc import Mapping, Sequence
from math import sqrt

from actors.events import EvaluationDone, RolloutSample
from actors.observability import thresholds
from actors.report import statistics as names
from actors.report.markup import Html, concat, tag
from actors.report.series import Series
from actors.report.state import RunState
from actors.report.svg import Axes, Dot, Lane, Line, histogram, line_chart, timeline
from actors.report.units import duration, number, percent

POINTS = 150  # a chart shows: more cannot be told apart at its width
SMALL_POINTS = 60  # of the appendix
LANE_POINTS = 240
SHOWN_CHARACTERS = 4000  # of a prompt or response
COLOURS = ("c1", "c2", "c3", "c4", "c5")
ROLE_COLOURS = {"generator": "c1", "verifier": "c2", "learner": "c3"}
RATE_COLOURS = {"generation": "c1", "learning": "c3"}
WHOLE_SHARES = {names.MIXED_GROUPS, "effective_sample_size"}  # plotted from 0 to 100 %
DROPS = {
    "zero_variance": "all rewards equal, nothing to learn (zero_variance)",
    "stale": "too old for the bound on staleness (stale)",
    "infra_error": "verification broke (infra_error)",
}
SHARES = WHOLE_SHARES | {
    names.TRUNCATED,
    "clip_fraction_low",
    "clip_fraction_high",
    "masked_fraction",
    "mfu",
    "mixed_groups_fraction",
}


def learning(state: RunState) -> Html:
    """Held-out accuracy and training reward over the run."""
    lines = [
        Line(
            "pass@1",
            "c1",
            [Dot(e.version, e.pass_at_1, error=_standard_error(e.pass_at_1, e.n)) for e in _by_version(state)],
            markers=True,
        )
    ]
    majority = [Dot(e.version, e.maj_at_k) for e in _by_version(state) if e.maj_at_k is not None and e.k > 1]
    if majority:
        k = max(e.k for e in state.evaluations)
        lines.append(Line(f"maj@{k}", "c2", majority, markers=True))
    accuracy = line_chart("Held-out accuracy", lines, Axes("version", _whole, _share, 0.0, 1.0, 230.0))
    note = "On problems that are never trained on. Bars are one standard error."
    return _section(
        "Does it learn?",
        "",
        tag(
            "div",
            _card("Held-out accuracy", note, accuracy, lines),
            _statistic(state, names.REWARD, 230.0),
            _reward_parts(state),
            class_="cards",
        ),
    )


def _reward_parts(state: RunState) -> Html:
    """What the reward was made of, where the verifiers named more than one part."""
    parts = sorted(name for name in state.statistics if name.startswith(names.REWARD_PART))
    if len(parts) < 2:
        return Html()
    lines = [
        Line(name.removeprefix(names.REWARD_PART), COLOURS[i % 5], _dots(state.statistics[name]))
        for i, name in enumerate(parts)
    ]
    chart = line_chart("Parts of the reward", lines, Axes("step", _whole, number, height=230.0))
    note = "Means over the trained groups, before their weights."
    if (model := state.reward_model) is not None:
        note += (
            f" The reward model puts {percent(model.accuracy)} of {model.held_out} held-out pairs in the right order."
        )
    return _card("Parts of the reward", note, chart, lines)


def staleness(state: RunState) -> Html:
    """How old the trained tokens were."""
    total, bound = state.trained_tokens, state.info.max_staleness
    oldest = max([bound, *state.staleness])
    ages = range(oldest + 1) if oldest <= 24 else sorted(state.staleness)
    bars = [
        (
            str(age),
            state.staleness[age] / total if total else 0.0,
            f"{state.staleness[age]:,} tokens were {age} versions old",
        )
        for age in ages
    ]
    chart = histogram("Staleness of the trained tokens", bars, bound if oldest <= 24 else None)
    over = sum(count for age, count in state.staleness.items() if age > bound)
    verdict = f"{over:,} tokens were over it, which must never happen." if over else "None was over it."
    mean = line_chart(
        "Mean staleness", [Line("mean", "c1", _dots(state.staleness_mean))], Axes("step", _whole, number, y_min=0.0)
    )
    return _section(
        "How far behind was the policy that wrote the tokens?",
        "Generators continue while the learner steps, so a token may come from an older policy version than the one "
        f"it trains. This run allowed {bound} versions. {verdict}",
        tag(
            "div",
            _card("Trained tokens by age", "Versions behind the learner when the step was taken.", chart),
            _card("Mean age by step", "In versions.", mean),
            class_="cards",
        ),
    )


def pools(state: RunState) -> Html:
    """What the pools did when, and how fast."""
    lanes = [
        Lane(role.capitalize(), ROLE_COLOURS.get(role, "c5"), _spans(series), state.busy_share(role) or 0.0)
        for role, series in _known_first(state.busy, ROLE_COLOURS)
    ]
    marks = [(e.seconds, "evaluation", f"evaluation {e.name} done, {percent(e.pass_at_1)}") for e in state.evaluations]
    marks += [(r.seconds, "restart", f"restart of {r.member}: {r.reason}") for r in state.last_restarts]
    lanes_note = "Height and colour show the share of time the pool worked; its mean stands on the right. "
    lanes_note += "Dotted: an evaluation was done. Red: a process was restarted."
    rates = [
        Line(kind, RATE_COLOURS.get(kind, "c5"), _by_time(series))
        for kind, series in _known_first(state.rates, RATE_COLOURS)
    ]
    queues = [Line(n, COLOURS[i % 5], _by_time(s)) for i, (n, s) in enumerate(sorted(state.queues.items()))]
    axes = Axes("time", _clock, number, y_min=0.0)
    return _section(
        "What did each pool do?",
        "Generation, verification and learning run at the same time. The pool that is always busy sets the pace; the "
        "others could be smaller.",
        _card("Utilisation", lanes_note, timeline("Utilisation of the pools", lanes, marks, _clock), wide=True),
        tag(
            "div",
            _card("Tokens a second", "Generated, and trained on.", line_chart("Tokens a second", rates, axes), rates),
            _card(
                "Queues",
                "Groups that wait. A full queue shows who is too slow.",
                line_chart("Queues", queues, axes),
                queues,
            ),
            class_="cards",
        ),
    )


def weights(state: RunState) -> Html:
    """What a weight update cost."""
    parts = [("transfer", "c1", state.transfer), ("pause", "c3", state.pause), ("total", "c5", state.sync_total)]
    lines = [Line(label, colour, _dots(series)) for label, colour, series in parts]
    times = line_chart("Weight updates", lines, Axes("version", _whole, duration, y_min=0.0))
    steps = [Line("step", "c3", _dots(state.step_seconds))]
    step_chart = line_chart("Step time", steps, Axes("step", _whole, duration, y_min=0.0))
    members = f"to {state.sync_members} generator{'' if state.sync_members == 1 else 's'}"
    return _section(
        "What did new weights cost?",
        "Generators continue while weights arrive and stop only for the pause.",
        tag(
            "div",
            _card("Weight updates", f"By policy version, {members}.", times, lines),
            _card("Learner step", "Time of an optimizer step, without waiting for its batch.", step_chart),
            class_="cards",
        ),
    )


def policy(state: RunState) -> Html:
    """The statistics in which a collapse is seen early."""
    shown = [names.RESPONSE_LENGTH, names.ENTROPY, names.LOGPROB_DIFFERENCE, names.MIXED_GROUPS, names.TRUNCATED]
    return _section(
        "Is the policy healthy?",
        f"A collapse shows here first: entropy below {thresholds.MIN_ENTROPY}, fewer than "
        f"{percent(thresholds.MIN_MIXED_GROUPS)} of the groups with mixed rewards, or responses that shrink to a few "
        "tokens.",
        tag("div", *(_statistic(state, name) for name in shown if name in state.statistics), class_="cards"),
    )


def groups(state: RunState) -> Html:
    """Where every group went."""
    g = state.groups
    waiting = g.in_flight + g.ready + g.delivered
    parts = [("committed", g.committed, "c2"), ("trained, not yet in a checkpoint", g.trained, "c1")]
    parts += [("on its way", waiting, "c5")]
    parts += [
        (f"dropped, {DROPS.get(reason, reason)}", n, "c4" if reason == "zero_variance" else "c3")
        for reason, n in sorted(g.dropped.items(), key=lambda d: -d[1])
    ]
    parts = [part for part in parts if part[1]]
    if not g.issued:
        return Html()
    bar = tag(
        "div", *(tag("span", class_=c, title=f"{t}: {n:,}", style=f"flex:{n}") for t, n, c in parts), class_="flow"
    )
    rows = [(tag("span", _key(c, text), class_="legend"), f"{n:,}", percent(n / g.issued, 1)) for text, n, c in parts]
    accounted = sum(n for _, n, _ in parts)
    balance = (
        "Every issued group is accounted for."
        if accounted == g.issued
        else (f"{abs(g.issued - accounted):,} groups are unaccounted for, which must never happen.")
    )
    return _section(
        "Where did the groups go?",
        f"{g.issued:,} groups of rollouts were issued. {balance}",
        tag("div", bar, _table(("", "groups", "share"), rows), class_="card wide"),
    )


def samples(state: RunState) -> Html:
    """A few rollouts to read."""
    if not state.samples:
        return Html()
    head = tag("tr", *(tag("th", text) for text in ("When", "Prompt", "Response", "Reward")))
    return _section(
        "What does it write?",
        "The first and the latest sampled rollouts; samples.jsonl has all. Control characters are written out.",
        tag(
            "div",
            tag("table", tag("thead", head), tag("tbody", *map(_sample, state.samples)), class_="samples"),
            class_="card wide scroll",
        ),
    )


def appendix(state: RunState) -> Html:
    """Restarts, every other statistic, and the configuration."""
    shown = {
        names.REWARD,
        names.RESPONSE_LENGTH,
        names.ENTROPY,
        names.LOGPROB_DIFFERENCE,
        names.MIXED_GROUPS,
        names.TRUNCATED,
    }
    rest = [n for n in sorted(state.statistics) if n not in shown and not n.startswith(names.REWARD_PART)]
    others = [_statistic(state, name, 170.0, SMALL_POINTS) for name in rest]
    restarts = [(_clock(r.seconds), r.role, r.member, r.reason) for r in state.last_restarts]
    parts = []
    if restarts:
        parts.append(
            tag(
                "div",
                tag("h3", "Restarts"),
                _table(("when", "role", "process", "reason"), restarts, 4),
                class_="card wide",
            )
        )
    recoveries = [
        (_clock(r.seconds), r.role, r.member, r.fault, duration(r.recovery_seconds)) for r in state.last_recoveries
    ]
    if recoveries:
        columns = ("when", "role", "process", "fault", "until work flowed again")
        parts.append(tag("div", tag("h3", "Recoveries"), _table(columns, recoveries, 4), class_="card wide"))
    if others:
        parts.append(tag("details", tag("summary", "Every other statistic"), tag("div", *others, class_="cards small")))
    if state.info.configuration:
        configuration = tag("div", tag("pre", state.info.configuration), class_="card wide")
        parts.append(tag("details", tag("summary", "Configuration as it was resolved"), configuration))
    where = tag("p", "Run folder: ", tag("code", str(state.info.folder)), class_="soft")
    return _section("Details", "", *parts, where)


def _section(title: str, text: str, *parts: Html) -> Html:
    return tag("section", tag("h2", title), tag("p", text, class_="soft") if text else "", *parts)


def _card(title: str, note: str, chart: Html, lines: Sequence[Line] = (), wide: bool = False) -> Html:
    legend = (
        tag("div", *(_key(line.colour, line.label) for line in lines), class_="legend") if len(lines) > 1 else Html()
    )
    return tag(
        "div", tag("h3", title), tag("p", note, class_="note"), legend, chart, class_="card wide" if wide else "card"
    )


def _key(colour: str, text: str) -> Html:
    return tag("span", tag("i"), tag("b", text), class_=colour)


def _statistic(state: RunState, name: str, height: float = 200.0, limit: int = POINTS) -> Html:
    about, series = names.describe(name), state.statistics.get(name, Series())
    y_text = _share if name in SHARES else number
    low = 0.0 if all(point.low >= 0 for point in series) else None
    axes = Axes("step", _whole, y_text, low, 1.0 if name in WHOLE_SHARES else None, height)
    title = f"{about.label} ({about.unit})" if about.unit not in ("", "share") else about.label
    return _card(title, about.meaning, line_chart(about.label, [Line(about.label, "c1", _dots(series, limit))], axes))


def _dots(series: Series, limit: int = POINTS) -> list[Dot]:
    return [Dot(p.step, p.value, *((p.low, p.high) if p.count > 1 else ())) for p in series.thinned(limit)]


def _by_time(series: Series) -> list[Dot]:
    return [Dot(p.seconds, p.value) for p in series.thinned(POINTS)]


def _spans(series: Series) -> list[tuple[float, float, float]]:
    points = series.thinned(LANE_POINTS)
    if not points:
        return []
    first = points[0].seconds - (points[1].seconds - points[0].seconds if len(points) > 1 else 1.0)
    starts = [max(0.0, first), *(point.seconds for point in points)]
    return [(start, point.seconds, point.value) for start, point in zip(starts, points, strict=False)]


def _by_version(state: RunState) -> list[EvaluationDone]:
    return sorted(state.evaluations, key=lambda done: done.version)


def _known_first(series: Mapping[str, Series], order: Mapping[str, str]) -> list[tuple[str, Series]]:
    ranks = list(order)
    return sorted(series.items(), key=lambda item: (ranks.index(item[0]) if item[0] in ranks else len(ranks), item[0]))


def _standard_error(share: float, n: int) -> float:
    return sqrt(max(0.0, share * (1 - share)) / n)


def _share(value: float) -> str:
    return f"{value * 100:.3g}%"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], text_columns: int = 1) -> Html:
    def cells(name: str, row: Sequence[object]) -> Html:
        return tag("tr", *(tag(name, cell, class_="n" if i >= text_columns else None) for i, cell in enumerate(row)))

    body = tag("tbody", *(cells("td", row) for row in rows))
    return tag("div", tag("table", tag("thead", cells("th", head)), body), class_="scroll")


def _sample(sample: RolloutSample) -> Html:
    same = sample.version_min == sample.version_max
    versions = f"version {sample.version_max}" if same else f"versions {sample.version_min} to {sample.version_max}"
    parts = ", ".join(f"{name} {number(value)}" for name, value in sample.parts.items())
    notes = [parts, sample.verdict_status, "cut off by the token limit" if sample.truncated else ""]
    reward = concat(number(sample.reward), tag("div", "; ".join(filter(None, notes)), class_="soft"))
    when = concat(
        _clock(sample.seconds), tag("div", versions, class_="soft"), tag("div", sample.task_key, class_="soft")
    )
    return tag(
        "tr",
        tag("td", when),
        tag("td", tag("pre", _cut(sample.prompt))),
        tag("td", tag("pre", _cut(sample.response))),
        tag("td", reward),
    )


def _cut(text: str) -> str:
    left_out = len(text) - SHOWN_CHARACTERS
    return text if left_out <= 0 else f"{text[:SHOWN_CHARACTERS]} … ({left_out:,} more characters)"
