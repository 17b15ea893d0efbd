"""A real Prometheus watches a real run: every panel and every rule can be asked, and shows what there is to show."""

import json
import math
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.deadline import until
from tests.e2e.conftest import ROOT, Run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus, such as Debian's"),
]

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "grafana/dashboards").glob("*.json"))}
#: Longest wait for Prometheus to come up, to see the run, and to answer (s).
SECONDS = 30.0
#: How often it scrapes here (s), and the window of rates: a run of a minute is to fill it.
SCRAPE, WINDOW = 1, "15s"
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
    "Wait for a worker": "sums are checked without a worker",
    "vLLM: requests": "the engine is another",
    "vLLM: cache in use": "the engine is another",
    "vLLM: latency": "the engine is another",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Prometheus:
    """Debian's Prometheus, which finds the run by `/targets`."""

    def __init__(self, folder: Path, targets: str) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self.began = time.time()
        job = {"job_name": "leeway", "honor_labels": True}
        job["http_sd_configs"] = [{"url": targets, "refresh_interval": f"{SCRAPE}s"}]
        every = {"scrape_interval": f"{SCRAPE}s", "scrape_timeout": f"{SCRAPE}s", "evaluation_interval": f"{SCRAPE}s"}
        (folder / "prometheus.yml").write_text(yaml.safe_dump({"global": every, "scrape_configs": [job]}))
        self._log = (folder / "prometheus.log").open("w+")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, over all the time since Prometheus began."""
        asked = {"query": expression, "start": self.began, "end": time.time(), "step": SCRAPE}
        url = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{expression}: {error.read().decode()}")
        return found

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def text(self) -> str:
        return Path(self._log.name).read_text()[-2000:]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        self._log.close()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[[str], Prometheus]]:
    """Start a Prometheus for the targets at an address; it is ended with the test."""
    made: list[Prometheus] = []

    def begin(targets: str) -> Prometheus:
        made.append(Prometheus(tmp_path, targets))
        assert until(made[-1].ready, SECONDS), made[-1].text()
        return made[-1]

    yield begin
    for one in made:
        one.close()


def status_page(run: Run) -> str:
    found = run.wait_for("the status page", lambda: re.search(r"watch it at (http://[\d.:]+)", run.text()))
    return str(found[1])


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
    run = start(steps="6")
    prometheus = watch(f"{status_page(run)}/targets")
    assert run.end() == 0, run.text()[-3000:]
    name = run.folder.name
    (info,) = prometheus.ask("last_over_time(leeway_run_info[5m])")
    assert info["metric"]["run"] == name
    assert {one["metric"]["role"] for one in prometheus.ask("max by (role) (up)")} == {
        *("controller", "replay", "generator", "verifier", "learner")
    }
    missing = {title for board in BOARDS.values() for title in empty(board, prometheus, name)}
    assert missing <= set(EMPTY), "these have no data"
    for board in BOARDS.values():
        for event in board["annotations"]["list"]:
            prometheus.ask(asked(event["expr"], name))
    for expression in rules():
        prometheus.ask(expression)
