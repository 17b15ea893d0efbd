"""Boards as Grafana's JSON: the grid, variables, links and annotations that all of them share."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, statetimeline, timeseries
from grafana_foundation_sdk.builders import stat as stats
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from docs.generate.markdown import anchor
from grafana.panels import COLUMNS, OPERATIONS, Board, Limit, Panel, of_run

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, BAD = "green", "red"
#: Events drawn over every graph: name, colour, whether shown at first, expression, text.
EVENTS = (
    ("Versions", "blue", False, "changes(leeway_learner_version[1m]) > 0", "new policy version"),
    ("Checkpoints", "purple", True, "changes(leeway_checkpoint_version[1m]) > 0", "checkpoint durable"),
    ("Restarts", "orange", True, "increase(leeway_restarts_total[1m]) > 0", "{{role}} replaced"),
    ("Alerts", "red", True, 'ALERTS{alertname=~"Leeway.*", alertstate="firing"}', "{{alertname}} ({{severity}})"),
)


class _Event(models.AnnotationQuery, Builder[models.AnnotationQuery]):
    """An annotation with the fields that Prometheus's data source reads and the SDK's class lacks."""

    def __init__(self, name: str, colour: str, shown: bool, expression: str, text: str) -> None:
        super().__init__(name=name, datasource=DATASOURCE, enable=shown, icon_color=colour, expr=of_run(expression))
        self._text = text

    def build(self) -> models.AnnotationQuery:
        return self

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"titleFormat": self._text, "textFormat": "", "step": "30s"}


def written(board: Board, boards: Sequence[Board]) -> str:
    """The JSON of a board that links to all others."""
    made = (
        dashboard.Dashboard(f"Leeway / {board.title}")
        .uid(board.uid)
        .description(board.description)
        .tags(["leeway"])
        .timezone("browser")
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .variables([_datasource(), _run()])
        .annotations([_Event(*event) for event in EVENTS])
        .links([_link(other.title, f"/d/{other.uid}", True) for other in boards if other is not board])
        .link(_link("Runbook", f"{OPERATIONS}#runbook", False))
    )
    _fill(made, board)
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _run() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("run")
        .label("Run")
        .datasource(DATASOURCE)
        .query("label_values(leeway_run_info, run)")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_DESC)  # names begin with the time: the latest run comes first
    )


def _link(title: str, url: str, inside: bool) -> dashboard.DashboardLink:
    made = dashboard.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url).tooltip(title)
    return made.include_vars(inside).keep_time(inside).target_blank(not inside).icon("dashboard" if inside else "doc")


def _fill(made: dashboard.Dashboard, board: Board) -> None:
    """Place the panels from left to right, a new line where one does not fit."""
    number, top = 1, 0
    for row in board.rows:
        made.with_row(dashboard.Row(row.title).id(number).grid_pos(models.GridPos(h=1, w=COLUMNS, x=0, y=top)))
        number, top = number + 1, top + 1
        for line in _lines(row.panels):
            left, height = 0, max(panel.height for panel in line)
            for panel in line:
                place = models.GridPos(h=height, w=panel.width, x=left, y=top)
                made.with_panel(_drawn(panel).id(number).grid_pos(place))
                number, left = number + 1, left + panel.width
            top += height


def _lines(panels: Sequence[Panel]) -> Iterator[list[Panel]]:
    line: list[Panel] = []
    for panel in panels:
        if sum(p.width for p in line) + panel.width > COLUMNS:
            yield line
            line = []
        line.append(panel)
    yield line


def _drawn(panel: Panel) -> Any:
    """The builder of a panel. Those of the SDK have the same methods and no class in common."""
    made = _KINDS[panel.kind](panel)
    made = made.title(panel.title).description(panel.description).datasource(DATASOURCE).unit(panel.unit)
    made = made.thresholds(_thresholds(panel.limit))
    if panel.share:
        made = made.min(0).max(1)
    if panel.runbook:
        page = f"{OPERATIONS}#{anchor(panel.runbook)}"
        made = made.links([_link(f"Runbook: {panel.runbook}", page, False)])
    for index, query in enumerate(panel.queries):
        target = prometheus.Dataquery().ref_id(chr(ord("A") + index)).expr(of_run(query.expression)).range()
        target = target.legend_format(query.legend or "__auto")
        made = made.with_target(target.format(PromQueryFormat.HEATMAP) if panel.kind == "heatmap" else target)
    return made


def _thresholds(limit: Limit | None) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=None, color=BAD if limit and limit.bad == "below" else GOOD)]
    if limit:
        steps.append(models.Threshold(value=limit.value, color=GOOD if limit.bad == "below" else BAD))
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _graph(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(looks.LegendDisplayMode.LIST)
    made = (
        timeseries.Panel()
        .legend(legend.placement(looks.LegendPlacement.BOTTOM).show_legend(True).calcs([]))
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
        .line_width(1)
        .show_points(looks.VisibilityMode.AUTO)
        .fill_opacity(30 if panel.kind == "stacked" else 5)
    )
    if panel.kind == "stacked":
        made = made.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if panel.limit:
        style = common.GraphThresholdsStyleConfig().mode(looks.GraphTresholdsStyleMode.DASHED)
        made = made.thresholds_style(style)
    return made


def _stat(panel: Panel) -> stats.Panel:
    return (
        stats.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(looks.BigValueGraphMode.AREA)
        .color_mode(looks.BigValueColorMode.VALUE if panel.limit else looks.BigValueColorMode.NONE)
        .no_value("–")
    )


def _timeline(_: Panel) -> statetimeline.Panel:
    return statetimeline.Panel().color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))


def _heatmap(_: Panel) -> heatmap.Panel:
    return heatmap.Panel().calculate(False).cell_gap(1)


_KINDS: dict[str, Callable[[Panel], Any]] = {
    "graph": _graph,
    "stacked": _graph,
    "stat": _stat,
    "timeline": _timeline,
    "heatmap": _heatmap,
}
