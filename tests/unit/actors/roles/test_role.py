"""What every role has in common: how it is built, and its place in the network."""

import logging
import pickle
import socket
import time
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.errors import RunError
from actors.roles.role import CLASSES, RoleContext, Storage, enter
from actors.transport.address import split

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


@pytest.fixture(autouse=True)
def _no_handlers_left() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()


@pytest.mark.parametrize("role", sorted(CLASSES))
def test_every_role_has_the_three_methods(role: str) -> None:
    module, _, name = CLASSES[role].partition(":")
    found = getattr(import_module(module), name)
    assert all(callable(getattr(found, method)) for method in ("describe", "run", "stop"))


def test_a_context_travels_to_another_process() -> None:
    context = RoleContext(load(QUICKSTART), "generator-1", Storage(Path("/runs/a"), Path("/models/b")), seed=3)
    arrived = pickle.loads(pickle.dumps(context))  # noqa: S301 - our own bytes; Ray does the same
    assert arrived == context
    assert arrived.clock() == pytest.approx(time.monotonic(), abs=60)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_process_logs_to_the_run_folder_and_serves_its_metrics(tmp_path: Path, address: str) -> None:
    presence = enter(load(QUICKSTART, [f"network.advertise={address}"]), tmp_path, "verifier-3")
    assert split(presence.metrics)[0] == address
    with urllib.request.urlopen(f"http://{presence.metrics}/metrics", timeout=10) as response:
        assert b"leeway_busy_seconds" in response.read()
    logging.getLogger("actors").warning("a word")
    assert "a word" in (tmp_path / "logs" / "verifier-3.log").read_text()


def test_ports_come_from_the_range_and_an_exhausted_one_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        recipe = load(QUICKSTART, [f"network.ports.range=[{port},{port}]"])
        with pytest.raises(RunError, match=rf"network.ports.range.*{port}"):
            enter(recipe, tmp_path, "verifier-3")
