"""What every role has in common: how it is built, and its place in the network."""

import logging
import pickle
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest

from actors.config.loading import dump, load
from actors.errors import RunError
from actors.roles.role import CLASSES, RoleContext, Storage, enter
from actors.transport import keys
from actors.transport.address import split
from actors.transport.sockets import DealerSocket, open_router, use_keys

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
    presence = enter(load(QUICKSTART, [f"network.advertise={address}"]), tmp_path, "verifier-3", "verifier")
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
            enter(recipe, tmp_path, "verifier-3", "verifier")


def test_a_process_takes_its_keys_from_where_it_runs_and_logs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keys.FOLDER, str(tmp_path / "keys"))
    recipe = load(QUICKSTART, ["network.curve=required", "network.http_token=everything"])
    with pytest.raises(RunError, match="leeway keys"):
        enter(recipe, tmp_path, "generator-1", "generator")
    keys.create(tmp_path / "keys")
    try:
        presence = enter(recipe, tmp_path, "generator-1", "generator")
        with (
            closing(open_router(presence.node, 0, 1000)) as router,
            closing(DealerSocket(router.endpoint, 1000)) as one,
        ):
            one.send([b"hello"])
            assert router.poll(10)
    finally:
        use_keys(None)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://{presence.metrics}/metrics", timeout=10)
    written = (tmp_path / "logs" / "generator-1.log").read_text() + dump(recipe)
    secrets = [path.read_text().strip() for path in (tmp_path / "keys").iterdir() if path.is_file()]
    assert len(secrets) == 4 and not any(secret in written for secret in secrets)


def test_a_cluster_without_keys_is_warned_of(tmp_path: Path) -> None:
    overrides = ["network.advertise=127.0.0.1"]
    enter(load(QUICKSTART, overrides), tmp_path, "alone", "replay")
    assert "network.curve" not in (tmp_path / "logs" / "alone.log").read_text()
    (tmp_path / "recipe.yaml").touch()
    enter(load(QUICKSTART, [*overrides, "ray.address=192.0.2.1:6379"]), tmp_path, "together", "replay")
    assert "network.curve: required" in (tmp_path / "logs" / "together.log").read_text()
