"""`report.html`: one file that explains a run to a newcomer and to its operators.

It loads nothing and runs nothing: the content security policy forbids both, so that even markup in a model's output
could do no harm if it ever got past the escaping.
"""

from actors.report import sections
from actors.report.health import warnings
from actors.report.markup import Html, concat, tag
from actors.report.state import RunState
from actors.report.style import CSS
from actors.report.summary import RunSummary, summarise
from actors.report.units import NONE, duration, number, percent, plural, size

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(state: RunState) -> str:
    """The report of a run in its present state, as a whole document."""
    body = tag(
        "main",
        _head(state),
        _warnings(state),
        _tiles(state, summarise(state)),
        sections.learning(state),
        sections.staleness(state),
        sections.pools(state),
        sections.weights(state),
        sections.policy(state),
        sections.groups(state),
        sections.samples(state),
        sections.appendix(state),
    )
    head = Html(
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"{tag('title', f'{state.info.recipe} – Leeway')}<style>{CSS}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def headline(state: RunState) -> str:
    """The outcome in one sentence."""
    before, latest = state.evaluation("before"), state.evaluations[-1] if state.evaluations else None
    steps, time = plural(state.step, "step"), duration(state.seconds)
    if before is None or latest is None or latest is before:
        return f"{steps} in {time}; held-out accuracy has not been measured since the start."
    gain = latest.pass_at_1 - before.pass_at_1
    moved = "rose" if gain > 0.005 else "fell" if gain < -0.005 else "stayed level:"
    return (
        f"Held-out accuracy {moved} from {percent(before.pass_at_1)} to {percent(latest.pass_at_1)} "
        f"in {steps} and {time}."
    )


def _head(state: RunState) -> Html:
    info = state.info
    status = {
        "finished": "This run is finished.",
        "interrupted": f"This run was interrupted at step {state.step} of {info.total_steps}; it can be resumed.",
        "failed": f"This run failed at step {state.step} of {info.total_steps}. {state.phase.detail}",
    }.get(
        state.phase.name,
        f"Written during the run: step {state.step} of {info.total_steps}, {state.phase.name}.",
    )
    over = f"Leeway run report · recipe {info.recipe} · seed {info.seed}"
    return tag("header", tag("p", over, class_="over"), tag("h1", headline(state)), tag("p", status, class_="soft"))


def _warnings(state: RunState) -> Html:
    found = warnings(state)
    if not found:
        return Html()
    return tag("div", *(tag("div", tag("b", w.text), " ", w.fix) for w in found), class_="warnings", role="alert")


def _tiles(state: RunState, summary: RunSummary) -> Html:
    before, after = summary.held_out.before, state.evaluations[-1] if state.evaluations else None
    rates, sync, stale = summary.tokens_per_second, summary.weight_sync, summary.staleness
    share = " / ".join(percent(value).removesuffix("%") for value in summary.busy_share.model_dump().values())
    majority = f"maj@{after.k} {percent(after.maj_at_k)}, " if after and after.maj_at_k is not None else ""
    tiles = [
        (
            "Held-out pass@1",
            f"{percent(before.pass_at_1)} → {percent(after.pass_at_1)}" if after else NONE,
            f"{majority}{after.n} tasks" if after else "not evaluated yet",
        ),
        ("Time", duration(summary.wall_seconds), plural(summary.steps, "step")),
        ("Generated", f"{number(rates.generation)} tokens/s", f"{number(summary.tokens.generated)} tokens in all"),
        ("Trained", f"{number(rates.learning)} tokens/s", f"{number(summary.tokens.trained)} tokens in all"),
        (
            "Staleness",
            f"≤ {plural(stale.max, 'version')}" if stale.max is not None else NONE,
            f"bound {state.info.max_staleness}, mean {number(stale.mean)}",
        ),
        (
            "Pause for new weights",
            duration(sync.pause_seconds),
            f"{size(sync.bytes)} sent in {duration(sync.transfer_seconds)}",
        ),
        ("Busy", f"{share}%", "generator / verifier / learner"),
        ("Restarts", str(summary.restarts), "processes replaced"),
    ]
    return tag("div", *(_tile(*texts) for texts in tiles), class_="tiles")


def _tile(name: str, big: str, more: str) -> Html:
    return tag(
        "div",
        concat(*(tag("div", text, class_=c) for c, text in (("name", name), ("big", big), ("more", more)))),
        class_="tile",
    )
