"""A run as a page: `report.html`, one file that explains it, and the same page at the controller, which keeps up.

The page is made of parts, each a template of `assets/parts`, and of charts. Whoever watches a run gets each part and
chart again when it has changed. Model output is hostile: templates escape whatever they are given, characters that act
on their neighbours are written out, and the content security policy lets nothing run or load but what is inlined here.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from actors.events import EvaluationDone, RolloutSample
from actors.observability import thresholds
from actors.report import statistics as names
from actors.report.charts import IN_PARTS, REASONING_STATISTICS, Chart, charts
from actors.report.charts import POLICY as EARLY_SIGNS
from actors.report.health import warnings
from actors.report.scores import rows
from actors.report.state import RunState
from actors.report.summary import ENDS, summarise
from actors.report.text import visible
from actors.report.units import NONE, clock, duration, number, percent, plural, size

ASSETS = Path(__file__).parent / "assets"
#: The parts of the page, from top to bottom; `fleet` is there only while a controller tells of it.
PARTS = (
    "head",
    "warnings",
    "tiles",
    "fleet",
    "learning",
    "evaluations",
    "reasoning",
    "pools",
    "staleness",
    "weights",
    "policy",
    "groups",
    "samples",
    "details",
)
#: Of a prompt or response.
SHOWN_CHARACTERS = 4000
#: Of a long response before what is marked in it.
BEFORE_HIGHLIGHT = 1000
DROPS = {
    "zero_variance": "all rewards equal, nothing to learn (zero_variance)",
    "stale": "too old for the bound on staleness (stale)",
    "infra_error": "verification broke (infra_error)",
}


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8").replace("</", "<\\/")


STYLE = _asset("uPlot.min.css") + _asset("page.css")
SCRIPT = f"/*\nuPlot: {_asset('uPlot.LICENSE')}*/\n" + _asset("uPlot.iife.min.js") + _asset("page.js")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


#: What the report may do: run, and be styled by, what is inlined.
REPORT_POLICY = (
    f"default-src 'none'; script-src {_source(SCRIPT)}; style-src {_source(STYLE)}; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
#: The page of a controller may hear from it, too.
POLICY = f"{REPORT_POLICY}; connect-src 'self'"


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _cut(text: str) -> str:
    return text[:SHOWN_CHARACTERS] + _left_out(len(text) - SHOWN_CHARACTERS)


def _left_out(count: int) -> str:
    return f" … ({count:,} more characters)" if count > 0 else ""


def _highlighted(sample: RolloutSample) -> Markup:
    """The response as markup, its words of reflection marked; of a long one the part where they begin."""
    text = sample.response
    spans = sorted((begin, after) for begin, after in sample.reflections if 0 <= begin < after <= len(text))
    late = bool(spans) and spans[0][0] > SHOWN_CHARACTERS - BEFORE_HIGHLIGHT
    start = at = spans[0][0] - BEFORE_HIGHLIGHT if late else 0
    end = min(len(text), start + SHOWN_CHARACTERS)
    shown = Markup("({:,} characters before) … ").format(start) if late else Markup("")
    for begin, after in spans:
        if at <= begin and after <= end:
            shown += visible(text[at:begin])
            shown += Markup("<mark>{}</mark>").format(visible(text[begin:after]))
            at = after
    return shown + visible(text[at:end]) + _left_out(len(text) - end)


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "clock": clock,
        "cut": _cut,
        "duration": duration,
        "highlighted": _highlighted,
        "number": number,
        "percent": percent,
        "plural": plural,
        "size": size,
    }
    made.globals |= {"NONE": NONE, "thresholds": thresholds}
    return made


_TEMPLATES = _environment()


def parts(state: RunState, told: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Everything on the page, piece by piece: `part/NAME` is markup, the rest JSON; `chart/NAME` is what a chart shows.

    Args:
        state: of the run; another thread may go on with it.
        told: what the controller knows of the processes, see `actors.control.overview.status`; None: no controller.
    """
    with state.lock:
        drawn = charts(state)
        seen = _view(state, told, drawn)
        found = {f"part/{name}": markup(name, seen) for name in PARTS}
        ended = state.phase.name in ENDS
    found |= {f"chart/{name}": _json(chart.plotted()) for name, chart in drawn.items()}
    return found | {"title": _json(f"{state.info.recipe} – Leeway"), "ended": _json(ended)}


def markup(name: str, seen: Mapping[str, Any]) -> str:
    """One part of a page from its template, which sees what it is given."""
    return _TEMPLATES.get_template(f"parts/{name}.html").render(seen)


def document(found: Mapping[str, str], live: bool) -> str:
    """The whole page.

    Args:
        found: its parts.
        live: whether it is served by a controller, which it then keeps hearing of the run from.
    """
    data = {name: text for name, text in found.items() if not name.startswith("part/")}
    return _TEMPLATES.get_template("page.html").render(
        title=json.loads(found["title"]),
        policy=POLICY if live else REPORT_POLICY,
        style=Markup(STYLE),
        script=Markup(SCRIPT),
        live=live,
        parts={name[5:]: Markup(text) for name, text in found.items() if name.startswith("part/")},
        data=Markup(_in_script(json.dumps(data))),
    )


def render(state: RunState) -> str:
    """The report of a run in its present state, as a whole document."""
    return document(parts(state), live=False)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _in_script(text: str) -> str:
    """JSON that no HTML parser can mistake for the end of the element that it stands in."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


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


def _view(state: RunState, told: Mapping[str, Any] | None, drawn: Mapping[str, Chart]) -> dict[str, Any]:
    """What the templates see."""
    bound, shown = state.info.max_staleness, {names.REWARD, *EARLY_SIGNS, *REASONING_STATISTICS}
    others = [n for n in sorted(state.statistics) if n not in shown and not n.startswith(IN_PARTS)]
    return {
        "charts": drawn,
        "state": state,
        "info": state.info,
        "summary": summarise(state),
        "headline": headline(state),
        "warnings": warnings(state),
        "told": told,
        "latest": state.evaluations[-1] if state.evaluations else None,
        "over_bound": sum(count for age, count in list(state.staleness.items()) if age > bound),
        "early_signs": [name for name in EARLY_SIGNS if name in state.statistics],
        "others": others,
        "evaluations": rows(_shown_evaluations(state)),
        "sampled": state.sampling is not None,
        "flow": _flow(state),
        "samples": state.samples[::-1],
        "reasoning": [name for name in drawn if name.startswith("reasoning/")],
        "firsts": sorted(state.firsts.values(), key=lambda first: (first.step, first.what)),
    }


def _shown_evaluations(state: RunState) -> list[EvaluationDone]:
    """Both ends of the run, what the chart of accuracy leaves out of the rest being how it is made up."""
    ends = [state.evaluations[0], state.evaluations[-1]] if state.evaluations else []
    found = [*({done.name: done for done in ends}.values())]
    return [*found, state.sampling] if state.sampling is not None else found


def _flow(state: RunState) -> list[tuple[str, int, int]]:
    """Where the issued groups are, as (text, colour, groups)."""
    g = state.groups
    found = [("committed", 2, g.committed), ("trained, not yet in a checkpoint", 1, g.trained)]
    found += [("on its way", 5, g.in_flight + g.ready + g.delivered)]
    found += [
        (f"dropped, {DROPS.get(reason, reason)}", 4 if reason == "zero_variance" else 3, count)
        for reason, count in sorted(g.dropped.items(), key=lambda item: -item[1])
    ]
    return [each for each in found if each[2]]
