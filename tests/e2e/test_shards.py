"""A synthetic fleet whose replay is in two shards, of which one dies."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actors.control.whereabouts import whereabouts
from actors.fleet.fleet import STARTUP_SECONDS, Fleet, running
from actors.fleet.laws import broken, notes_of
from actors.fleet.learner import Pace
from actors.fleet.recipe import fleet_recipe
from actors.transport.address import endpoints
from actors.transport.client import Client

pytestmark = pytest.mark.e2e

SECONDS = 180.0
#: Wide enough that there is work to lease while the learner waits for the shard that is away, however far the
#: generators were ahead of it when that died, and however long it takes until somebody looks.
CHANGES = {
    "generators.count": 20,
    "replay.shards": 2,
    "replay.groups_per_batch": 16,
    "replay.max_staleness": 64,
    "verifiers.count": 2,
    "checkpoint_every_steps": 2,
}


def finished(status: Mapping[str, Any]) -> int:
    """Groups that were submitted and have a verdict."""
    groups: Mapping[str, Any] = status["groups"]
    scored = sum(int(groups[state]) for state in ("ready", "delivered", "trained", "committed"))
    return scored + sum(map(int, groups["dropped"].values()))


def test_one_shard_dies_and_returns_while_the_other_serves(tmp_path: Path) -> None:
    recipe = fleet_recipe(tmp_path, list(CHANGES.items()))
    with running(recipe, tmp_path, tmp_path / "models", Pace()) as fleet:
        fleet.wait_for_step(3, STARTUP_SECONDS)
        first, second = fleet.victims("replay")
        assert [first.name, second.name] == ["replay", "replay-shard-1"]
        found = whereabouts(tmp_path)
        assert found is not None
        (controller,) = fleet.victims("controller")
        controller.suspend(True)  # so that nobody brings it back before the other was seen at work
        second.kill()
        with closing(Client(endpoints(found.replay)[0], "a-test", "controller")) as client:
            require_work(fleet, client)
        controller.suspend(False)
        fleet.wait_for("another shard", lambda: len(fleet.victims("replay")) == 2, SECONDS)
        step = fleet.step
        fleet.wait_for_step(step + 4, SECONDS)
        assert {name for name, m in fleet.status["members"].items() if m["role"] == "replay"} == {
            "replay",
            "replay-shard-1",
        }
        fleet.end()
        assert broken(notes_of(tmp_path), fleet.last_counters(), fleet.snapshot(), recipe.replay.max_staleness) == []
        assert fleet.left() == []


def require_work(fleet: Fleet, client: Client) -> None:
    """Until the living shard has leased, and has got submissions and verdicts, all of them since now."""

    def look() -> Mapping[str, Any]:
        return client.request("status").body

    before = look()

    def works() -> bool:
        now = look()
        leased = int(now["groups"]["issued"]) - int(before["groups"]["issued"])
        # More than were under way: these were leased, generated and verified since.
        return leased >= 10 and finished(now) - finished(before) > int(before["groups"]["in_flight"])

    fleet.wait_for("work at the living shard", works, SECONDS)
