"""The dashboards are current, whole, and ask only for what there is."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.observability import thresholds
from docs.generate.markdown import anchor
from grafana.generate import FOLDER, current
from grafana.panels import COLUMNS, OPERATIONS, above, below, of_run

ROOT = Path(__file__).parents[3]
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}
RULES = yaml.safe_load((ROOT / "deploy/monitoring/rules.yaml").read_text())
#: Metrics of others, by who exports them.
OTHERS = {
    "prometheus": {"up", "ALERTS"},
    "prometheus_client": {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"},
}
#: Largest object that an API server takes is near 1 MB; a dashboard is to stay far below.
MOST_BYTES = 200_000

every_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: dict[str, Any]) -> list[str]:
    asked = [target["expr"] for panel in panels(board) for target in panel["targets"]]
    return asked + [event["expr"] for event in board["annotations"]["list"]]


def defined() -> set[str]:
    """Every metric of ours and of vLLM by the generated page, and those of others."""
    ours = set(re.findall(r"^\| `((?:leeway_|vllm:)\w+)` \|", (ROOT / "grafana/METRICS.md").read_text(), re.MULTILINE))
    return ours.union(*OTHERS.values())


def metrics(expression: str) -> set[str]:
    found = re.findall(r"\b(?:leeway_|process_|vllm:)\w+|\bup\b|\bALERTS\b", re.sub(r'"[^"]*"', "", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def test_what_is_generated_is_current() -> None:
    stale = [path.name for path, text in current().items() if not path.exists() or path.read_text() != text]
    assert not stale, "run `python -m grafana.generate`"
    assert set(BOARDS) == {path.stem for path in current() if path.suffix == ".json"}


@every_board
def test_every_panel_says_what_it_shows(board: dict[str, Any]) -> None:
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"] and len(panel["description"]) > 10, panel["title"]
        assert defaults["unit"] and defaults["thresholds"]["steps"], panel["title"]
        assert panel["targets"] and all(target["expr"] for target in panel["targets"]), panel["title"]


@every_board
def test_every_metric_exists_and_is_of_the_chosen_run(board: dict[str, Any]) -> None:
    for expression in expressions(board):
        assert metrics(expression), expression
        assert metrics(expression) <= defined(), expression
        selected = re.findall(r'[\w:]+\{[^}]*run="\$run"\}', expression)
        assert {re.sub(r"_(bucket|sum|count)\{.*|\{.*", "", one) for one in selected} == metrics(expression)


@every_board
def test_panels_fit_the_grid_and_do_not_overlap(board: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS for place in places)
    # At 1366 px a column is 53 px wide: a number needs 200 px, a graph with its legend 400.
    assert all(p["gridPos"]["w"] >= (4 if p["type"] == "stat" else 8) for p in panels(board))
    for a, b in itertools.combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


@every_board
def test_ids_are_unique_and_every_query_has_a_name_of_its_own(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels(board):
        names = [target["refId"] for target in panel["targets"]]
        assert len(names) == len(set(names))


def test_addresses_are_unique() -> None:
    assert {board["uid"] for board in BOARDS.values()} == set(BOARDS)


@every_board
def test_links_lead_somewhere(board: dict[str, Any]) -> None:
    text = (ROOT / "docs/operations.md").read_text()
    sections = set(map(anchor, re.findall(r"^#+ (.*)$", text, re.MULTILINE)))
    links = [*board["links"], *(link for panel in panels(board) for link in panel.get("links", []))]
    inside = {link["url"] for link in links if link["url"].startswith("/d/")}
    assert inside == {f"/d/{uid}" for uid in BOARDS if uid != board["uid"]}
    for link in links:
        page, _, section = link["url"].partition("#")
        assert page in inside or (page == OPERATIONS and section in sections), link["url"]


@every_board
def test_datasource_and_run_are_chosen_by_variables(board: dict[str, Any]) -> None:
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "run"]
    sources = [panel["datasource"]["uid"] for panel in panels(board)]
    assert {*sources, *(event["datasource"]["uid"] for event in board["annotations"]["list"])} == {"${datasource}"}
    assert [event["name"] for event in board["annotations"]["list"]] == [
        "Versions",
        "Checkpoints",
        "Restarts",
        "Alerts",
    ]


def test_limits_are_those_of_the_warnings() -> None:
    overview = {panel["title"]: panel["fieldConfig"]["defaults"] for panel in panels(BOARDS["leeway-overview"])}
    assert overview["Entropy"]["thresholds"]["steps"] == [
        {"color": "red", "value": None},
        {"color": "green", "value": thresholds.MIN_ENTROPY},
    ]
    assert above("MAX_INFRA_SHARE").value == thresholds.MAX_INFRA_SHARE
    with pytest.raises(KeyError):
        below("NONSENSE")


def test_every_alert_is_explained_from_a_panel_that_shows_what_it_asks() -> None:
    alerts = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
    linked = {
        link["title"].removeprefix("Runbook: ")
        for b in BOARDS.values()
        for p in panels(b)
        for link in p.get("links", [])
    }
    assert alerts - linked == {"LeewayHeadMemory"}  # of Ray's, which has dashboards of its own


def test_the_run_is_asked_for_wherever_a_metric_stands() -> None:
    assert of_run('up / leeway_a{le="up"} + rate(vllm:b[W])') == (
        'up{run="$run"} / leeway_a{le="up", run="$run"} + rate(vllm:b{run="$run"}[$__rate_interval])'
    )


def test_each_dashboard_is_a_config_map_that_grafana_finds() -> None:
    made = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert made["generatorOptions"]["labels"]["grafana_dashboard"] == "1"
    files = [FOLDER / file for one in made["configMapGenerator"] for file in one["files"]]
    assert [len(one["files"]) for one in made["configMapGenerator"]] == [1] * len(BOARDS)
    assert {file.stem for file in files} == set(BOARDS)
    assert all(file.stat().st_size < MOST_BYTES for file in files)


def test_a_plain_grafana_is_told_where_dashboards_and_prometheus_are() -> None:
    read = {path.parent.name: yaml.safe_load(path.read_text()) for path in (FOLDER / "provisioning").rglob("*.yaml")}
    assert read["dashboards"]["providers"][0]["type"] == "file"
    assert read["datasources"]["datasources"][0]["type"] == "prometheus"
