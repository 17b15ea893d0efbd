"""How Prometheus comes to a run: by an operator, or beside it on one machine."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.admission import refused
from deploy.render import kustomized

ROOT = Path(__file__).parents[4]
MONITORING = ROOT / "deploy" / "monitoring"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds what an operator is given")
def test_an_api_server_takes_what_the_operator_is_given() -> None:
    objects = kustomized(MONITORING)
    assert {found["kind"] for found in objects} == {"PrometheusRule", "ScrapeConfig", "PodMonitor"}
    assert [fault for found in objects for fault in refused(found)] == []


def test_every_scrape_keeps_the_role_that_a_metric_names() -> None:
    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    operator = yaml.safe_load((MONITORING / "scrapeconfig.yaml").read_text())["spec"]
    assert job["honor_labels"] and operator["honorLabels"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, which comes with Prometheus")
def test_a_prometheus_takes_the_configuration_for_one_machine() -> None:
    command = ["promtool", "check", "config", MONITORING / "prometheus.yml"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr


def test_what_compose_mounts_is_there() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    mounts = [mount.split(":")[0] for service in services.values() for mount in service["volumes"]]
    assert mounts and all((ROOT / "deploy" / mount).exists() for mount in mounts)
