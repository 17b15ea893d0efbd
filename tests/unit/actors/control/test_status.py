"""The controller's pages, without a run behind them."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from actors.config.network import NetworkConfig, PortsConfig
from actors.control.status import Server
from actors.errors import RunError
from actors.transport.address import resolve


class Source:
    is_ready = False

    def ready(self) -> bool:
        return self.is_ready

    def status(self) -> dict[str, Any]:
        return {"step": 3}

    def targets(self) -> list[dict[str, Any]]:
        return [{"targets": ["[::1]:1"], "labels": {"role": "learner"}}]

    def page(self) -> str:
        return "<html>a run</html>"


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def server(source: Source) -> Iterator[Server]:
    server = Server(source, resolve(NetworkConfig(), in_cluster=False))
    yield server
    server.close()


def get(server: Server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(server.url.rstrip("/") + path, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_is_alive_before_it_is_ready(server: Server, source: Source) -> None:
    assert get(server, "/healthz") == (200, '{"status":"ok"}')
    assert get(server, "/readyz")[0] == 503
    source.is_ready = True
    assert get(server, "/readyz")[0] == 200


def test_status_targets_page_and_metrics_are_what_the_source_says(server: Server) -> None:
    assert json.loads(get(server, "/status")[1]) == {"step": 3}
    assert json.loads(get(server, "/targets")[1])[0]["targets"] == ["[::1]:1"]
    assert "a run" in get(server, "/")[1]
    assert "leeway_restarts_total" in get(server, "/metrics")[1]


def test_a_taken_port_is_named_with_its_key(server: Server) -> None:
    port = int(server.address.rpartition(":")[2])
    node = resolve(NetworkConfig(ports=PortsConfig(status=port)), in_cluster=False)
    with pytest.raises(RunError, match=rf"network.ports.status.*{port}"):
        Server(Source(), node)
