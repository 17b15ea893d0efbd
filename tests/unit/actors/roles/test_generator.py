"""A generator's end, without a model worth the name and without a run around it."""

import threading
from contextlib import closing
from pathlib import Path

import pytest

from actors.deadline import until
from actors.fleet.recipe import fleet_recipe
from actors.models import prepare
from actors.roles import generator as module
from actors.roles.generator import Generator
from actors.roles.role import RoleContext, Storage
from tests.unit.actors.transport.test_client import FakeReplay


def test_nothing_is_sent_once_a_generator_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it would put the generator on the list of members again."""
    for name, seconds in (("LEAVE_SECONDS", 0.0), ("POLL_SECONDS", 0.01)):
        monkeypatch.setattr(module, name, seconds)
    recipe = fleet_recipe(tmp_path, [("membership.heartbeat_seconds", 0.5), ("membership.timeout_seconds", 10.0)])
    with closing(FakeReplay()) as replay:
        storage = Storage(tmp_path, prepare(recipe.model, tmp_path, recipe.seed))
        generator = Generator(RoleContext(recipe, "generator-1", storage, replay.endpoint))
        thread = threading.Thread(target=generator.run, daemon=True)
        thread.start()
        assert until(lambda: "directory" in replay.kinds, 120)
        replay.delay_seconds = 0.2
        generator.drain()
        thread.join(120)
        assert not thread.is_alive()
        assert replay.kinds[-1] == "deregister"
        assert replay.kinds.count("deregister") == 1
