"""A real Prometheus beside a run: Debian's, configured as `deploy/monitoring` says, but in more of a hurry."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import ROOT

CONFIGURATION = ROOT / "deploy" / "monitoring" / "prometheus.yml"
#: Longest wait for Prometheus to come up, to see the run, and to answer (s).
SECONDS = 30.0
#: How often it scrapes and evaluates here (s).
SCRAPE = 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Prometheus:
    """It finds the run by `/targets`.

    Args:
        folder: for its data.
        targets: address of a run's `/targets`.
        rules: file of rules; None: it evaluates none.
    """

    def __init__(self, folder: Path, targets: str, rules: Path | None = None) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self.began = time.time()
        configuration = yaml.safe_load(CONFIGURATION.read_text())
        every = {"scrape_interval": f"{SCRAPE}s", "scrape_timeout": f"{SCRAPE}s", "evaluation_interval": f"{SCRAPE}s"}
        configuration |= {"global": every, "rule_files": [str(rules)] if rules else []}
        (job,) = configuration["scrape_configs"]
        (discovery,) = job["http_sd_configs"]
        discovery |= {"url": targets, "refresh_interval": f"{SCRAPE}s"}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
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
        return self._asked("query_range", query=expression, start=self.began, end=time.time(), step=SCRAPE)

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {one["metric"]["alertname"] for one in self._asked("query", query='ALERTS{alertstate="firing"}')}

    def members(self, role: str) -> set[str]:
        """The names of a role's processes that are scraped now."""
        return {one["metric"]["member"] for one in self._asked("query", query=f'up{{role="{role}"}} == 1')}

    def _asked(self, what: str, **asked: str | float) -> list[dict[str, Any]]:
        url = f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{asked['query']}: {error.read().decode()}")
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
