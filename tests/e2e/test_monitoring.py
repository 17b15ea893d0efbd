"""A real Prometheus watches a real run: every panel and every rule can be asked, and shows what there is to show."""

import json
import math
import re
import shutil
import signal
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from actors.deadline import until
from tests.e2e.conftest import ENDLESS, ROOT, Run
from tests.e2e.prometheus import Prometheus

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus, such as Debian's"),
]

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "grafana/dashboards").glob("*.json"))}
ROLES = {"controller", "replay", "generator", "verifier", "learner"}
#: Longest wait until every panel has data (s).
SECONDS = 90.0
#: The window of rates: a run of a minute is to fill it.
WINDOW = "15s"
#: Panels, or single series of them, that show nothing of this run, and why.
EMPTY = {
    "Warnings by symptom": "the run may have no warning",
    "Speed of a broadcast: measured network": "no preflight has measured the network",
    "Share of the network": "no preflight has measured the network",
    "Length: submitted, delivered, dropped: dropped": "no group is dropped, or none that has a length",
    "Recovery": "nothing fails",
    **dict.fromkeys(
        (
            *("Reflecting", "Responses that reflect", "Words of reflection"),
            *("Mixing languages", "Mixing of languages", "Language consistency"),
        ),
        "digits and signs are no words",
    ),
    **dict.fromkeys(
        (
            *("Answers of scorers", "Wait for scores", "Groups scored together", "Groups that wait for a scorer"),
            *("Scorers at work", "Tokens scored"),
        ),
        "no reward model",
    ),
    "Wait for a worker": "sums are checked without a worker",
    **dict.fromkeys(("Requests to the judge", "Requests without a score", "Time of a score"), "no judge is asked"),
    "vLLM: requests": "the engine is another",
    "vLLM: cache in use": "the engine is another",
    "vLLM: latency": "the engine is another",
}


def status_page(run: Run) -> str:
    found = run.wait_for("the status page", lambda: re.search(r"watch it at (http://[\d.:]+)", run.text()))
    return str(found[1])


def status(run: Run) -> dict[str, Any]:
    """What the status page says of a run, as JSON."""
    with urllib.request.urlopen(f"{status_page(run)}/status", timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def has_data(series: list[dict[str, Any]]) -> bool:
    return any(math.isfinite(float(value)) for one in series for _, value in one["values"])


def asked(expression: str, run: str) -> str:
    """What Grafana makes of an expression."""
    return expression.replace("$run", run).replace("$__rate_interval", WINDOW).replace("$__range", "5m")


def empty(board: dict[str, Any], prometheus: Prometheus, run: str) -> set[str]:
    """The panels of a board without any data, and the single series, where others of the panel have some."""
    found = set()
    for panel in board["panels"]:
        data = {t["legendFormat"]: has_data(prometheus.ask(asked(t["expr"], run))) for t in panel.get("targets", [])}
        if data and not any(data.values()):
            found.add(panel["title"])
        else:
            found |= {f"{panel['title']}: {name}" for name, there in data.items() if not there}
    return found


def rules() -> list[str]:
    """Every expression of the alerts and recording rules."""
    files = (ROOT / "deploy/monitoring").glob("rules.yaml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def test_every_panel_and_rule_can_be_asked_and_shows_what_there_is(
    start: Callable[..., Run], watch: Callable[[str], Prometheus]
) -> None:
    run = start(steps=ENDLESS)  # it goes on for as long as Prometheus takes
    prometheus = watch(status_page(run))

    def scraped() -> set[str]:
        return {one["metric"]["role"] for one in prometheus.ask("max by (role) (up)")}

    run.wait_for("everybody to be scraped", lambda: scraped() == ROLES)
    name = run.folder.name
    (info,) = prometheus.ask("last_over_time(leeway_run_info[5m])")
    assert info["metric"]["run"] == name

    def missing() -> set[str]:
        return {title for board in BOARDS.values() for title in empty(board, prometheus, name)} - set(EMPTY)

    until(lambda: not missing(), SECONDS, interval=1.0)
    assert not missing(), "these have no data"
    for board in BOARDS.values():
        for event in board["annotations"]["list"]:
            prometheus.ask(asked(event["expr"], name))
    for expression in rules():
        prometheus.ask(expression)
    run.kill(signal.SIGTERM)
    assert run.end() == 128 + signal.SIGTERM, run.text()[-3000:]
