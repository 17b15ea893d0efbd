"""Whether a run that resumes goes on with its journal."""

import dataclasses
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from actors.config.roles import JournalConfig
from actors.errors import JournalHeldError
from actors.replay import rows
from actors.replay.journal import FOLDER, Identity, Journal
from actors.replay.resuming import settle_journals
from tests.unit.actors.replay.buffer_world import Sums
from tests.unit.actors.replay.journal_world import LIMITS, Kept

IDENTITY = Identity("run", 2, LIMITS)


@pytest.fixture
def world(tmp_path: Path) -> Kept:
    """Four steps were taken, two of them committed; a fifth batch is half there."""
    world = Kept(tmp_path / FOLDER)
    for version in range(4):
        world.step(version)
    world.say("committed", "learner", version=2)
    (task,) = world.lease(version=4)
    world.submit(task, 4)
    world.end_tick()
    world.journal.close()
    return world


def settle(world: Kept, version: int, identity: Identity = IDENTITY, **config: Any) -> str:
    return settle_journals(world.folder.parent, [identity], JournalConfig(**config), version, Sums)


def aside(world: Kept) -> list[str]:
    return [path.name for path in world.folder.parent.iterdir() if path.name != FOLDER]


@pytest.mark.parametrize(("version", "groups"), [(2, 5), (3, 5), (4, 5)])
def test_a_checkpoint_that_the_journal_reaches_back_to_is_gone_on_from(world: Kept, version: int, groups: int) -> None:
    assert f"{groups} groups" in settle(world, version)
    assert not aside(world)
    world.open()
    batch = world.say("take_batch", "learner", version=2)
    assert len(batch["groups"]) == 2


@pytest.mark.parametrize(
    ("version", "why"), [(1, "it is ahead of the checkpoint"), (0, "it is ahead"), (5, "it ends at step 4")]
)
def test_a_journal_that_lacks_a_batch_is_put_aside(world: Kept, version: int, why: str) -> None:
    note = settle(world, version)
    (name,) = aside(world)
    assert why in note and name in note and name.startswith(f"journal-until-{version:06d}")
    assert not world.folder.exists()


def test_a_run_with_other_limits_begins_at_its_checkpoint(world: Kept) -> None:
    note = settle(world, 3, dataclasses.replace(IDENTITY, group_size=4))
    assert "group_size" in note and aside(world)


def test_a_run_without_a_journal_begins_at_its_checkpoint(world: Kept) -> None:
    note = settle(world, 3, durability="off")
    assert "replay.journal.durability is off" in note and aside(world)


def test_a_journal_that_is_put_aside_keeps_every_batch_of_the_checkpoint(tmp_path: Path) -> None:
    world = Kept(tmp_path / FOLDER, keep="all")
    batches = [world.step(version) for version in range(3)]
    world.say("committed", "learner", version=1)
    world.end_tick()
    world.journal.close()  # the checkpoint of step 2 was durable by then, and nobody had told the replay
    settle(world, 2, dataclasses.replace(IDENTITY, group_size=4), keep="all")
    found = {version: [head.model_dump() for head, _ in groups] for version, groups in Journal.read(tmp_path)}
    assert found == {version: batches[version]["groups"] for version in (0, 1)}, "the batch of version 2 is not in it"


def test_a_damaged_journal_is_put_aside_by_name(world: Kept) -> None:
    (world.folder / rows.MARK).unlink()
    note = settle(world, 3)
    assert "damaged" in note and "last is missing" in note and aside(world)


def test_a_group_that_is_missing_is_noticed_before_the_run_begins(world: Kept) -> None:
    connection = sqlite3.connect(world.folder / rows.FILE)
    connection.execute("DELETE FROM groups WHERE key = 5")
    connection.commit()
    connection.close()
    assert "row 5 of groups is missing" in settle(world, 3)


def test_a_journal_that_another_process_has_stays_where_it_is(world: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LOCK_SECONDS", 0.0)
    world.open()
    with pytest.raises(JournalHeldError):
        settle(world, 3)
    assert world.folder.exists()


def test_without_a_journal_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert settle_journals(tmp_path, [IDENTITY], JournalConfig(), 3, Sums) == ""
