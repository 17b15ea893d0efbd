"""What every process of a run does first."""

import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import process
from actors.config.network import NetworkConfig
from actors.transport.address import resolve, split


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_metrics_are_served_at_the_address_that_is_told(tmp_path: Path, address: str) -> None:
    told = process.begin("generator-1", tmp_path, resolve(NetworkConfig(advertise=address), in_cluster=False))
    assert split(told)[0] == address
    with urllib.request.urlopen(f"http://{told}/metrics", timeout=10) as response:
        assert b"leeway_generated_tokens_total" in response.read()
    logging.getLogger("anything").warning("a line")
    assert "a line" in (tmp_path / "logs" / "generator-1.log").read_text()
