"""The journal's files: what is kept and deleted, and which of them are refused."""

import dataclasses
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.config.roles import JournalConfig
from actors.errors import JournalBlockedError, JournalError, JournalHeldError
from actors.replay import journal as journals
from actors.replay import rows
from actors.replay.buffer import Buffer
from actors.replay.journal import FOLDER, Identity, Journal
from actors.replay.outbox import Outbox
from tests.unit.actors.replay.buffer_world import Sums
from tests.unit.actors.replay.journal_world import LIMITS, Kept, with_a_log, without_deadlines


def test_what_is_committed_is_deleted_a_few_groups_a_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "DELETED_A_TICK", 1)
    world = Kept(tmp_path)
    for version in range(3):
        world.step(version)
    world.end_tick()
    assert len(world.keys("groups")) == 6
    world.say("committed", "learner", version=3)
    world.end_tick()
    assert len(world.keys("groups")) == 5
    world.crash()
    for _ in range(5):
        world.say("status", "learner")
        world.lease(version=3)
        world.end_tick()
    assert world.keys("groups") == world.keys("scores") == [], "what was to be deleted is found again"


def test_the_disk_does_not_grow_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "STATE_BYTES", 2000)
    monkeypatch.setattr(journals, "STATE_FACTOR", 1)
    world, sizes = Kept(tmp_path), []
    for version in range(200):
        world.step(version)
        world.say("committed", "learner", version=version + 1)
        world.end_tick()
        sizes.append(sum(len(world.keys(table)) for table in ("ticks", "groups", "scores")))
    assert max(sizes[100:]) <= max(sizes[:100])


def test_kept_batches_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LOCK_SECONDS", 0.0)
    world = Kept(tmp_path / FOLDER, keep="all")
    batches = [world.step(version) for version in range(4)]
    world.say("committed", "learner", version=3)
    world.end_tick()
    world.crash()
    with pytest.raises(JournalHeldError):
        next(Journal.read(tmp_path))
    world.journal.close()
    found = list(Journal.read(tmp_path))
    assert [version for version, _ in found] == [0, 1, 2]
    for version, groups in found:
        assert [head.model_dump() for head, _ in groups] == batches[version]["groups"]
        for position, (_, payload) in enumerate(groups):
            for name, array in payload.arrays().items():
                assert array.tobytes() == batches[version]["arrays"][f"{position}.{name}"].tobytes()


def test_a_history_in_several_journals_is_read_as_one(tmp_path: Path) -> None:
    world = Kept(tmp_path / FOLDER, keep="all")
    for version in range(4):
        world.step(version)
        world.say("committed", "learner", version=version + 1)
    world.end_tick()
    world.journal.close()
    (tmp_path / FOLDER).rename(journals.aside(tmp_path / FOLDER, "000002-aa"))
    resumed = Journal(tmp_path / FOLDER, Identity("run", 2, LIMITS, first_version=2), JournalConfig(keep="all"))
    world.buffer = Buffer(LIMITS, 2, Sums(), {"version": 2, "cursor": 8, "committed": 4, "pending": [], "dropped": {}})
    world.outbox = Outbox(lambda *_: None, world.buffer, world.board, resumed, lambda: 0.0)
    batch = world.step(2)
    world.say("committed", "learner", version=3)
    world.outbox.flush()
    resumed.close()
    found = dict(Journal.read(tmp_path))
    assert list(found) == [0, 1, 2]
    assert [head.group_id for head, _ in found[2]] == [group["group_id"] for group in batch["groups"]]


def test_a_run_that_kept_nothing_says_what_it_takes(tmp_path: Path) -> None:
    Kept(tmp_path / FOLDER).journal.close()
    with pytest.raises(JournalError, match="keep: all"):
        next(Journal.read(tmp_path))


# -------------------------------------------------------------------- what is refused


def test_two_processes_never_have_one_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LOCK_SECONDS", 0.0)
    world = Kept(tmp_path)
    world.end_tick()
    with pytest.raises(JournalHeldError, match="another process"):
        Kept(tmp_path)


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _truncate(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).open("r+b").truncate(size)


def _run(statement: str) -> Callable[[Path], object]:
    def harm(folder: Path) -> None:
        connection = sqlite3.connect(folder / rows.FILE)
        with connection:
            connection.executescript(statement)
        connection.close()

    return harm


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_remove(rows.FILE), "journal.db is missing"),
        (_remove(rows.MARK), "last is missing"),
        (_truncate(rows.FILE, 0), "damaged"),
        (_truncate(rows.FILE, 20_000), "damaged"),
        (_truncate(rows.MARK, 3), "3 bytes"),
        (_run("DELETE FROM identity"), "identity"),
        (_run("DELETE FROM state"), "state is missing"),
        (_run("DELETE FROM ticks WHERE key = 3"), "tick 3 is missing"),
        (_run("DELETE FROM ticks WHERE key = 4"), "its end is missing"),
        (_run("DELETE FROM groups WHERE key = 1"), "row 1 of groups is missing"),
        (_run("DELETE FROM scores WHERE key = 1"), "row 1 of scores is missing"),
        (_run("UPDATE groups SET data = zeroblob(length(data)) WHERE key = 1"), "row 1 of groups was changed"),
        (_run("UPDATE groups SET key = key + 100"), "row 0 of groups is missing"),
        (_run("DROP TABLE events"), "tables"),
        (_run("PRAGMA user_version = 9"), "schema 9"),
        (
            _run("PRAGMA writable_schema = ON; UPDATE sqlite_master SET name = CAST(x'ff' AS TEXT), sql = 'x'"),
            "damaged",
        ),
    ],
)
def test_a_damaged_journal_is_named_and_refused(tmp_path: Path, harm: Callable[[Path], object], said: str) -> None:
    world = Kept(tmp_path)
    for version in range(2):
        world.end_tick()
        world.step(version)
    for _ in range(2):
        world.end_tick()
        world.lease(version=2)
    world.journal.close()
    harm(tmp_path)
    with pytest.raises(JournalError, match=said) as refused:
        world.open()
    assert str(tmp_path) in str(refused.value)


def test_a_log_that_lost_its_end_is_refused(tmp_path: Path) -> None:
    world = Kept(tmp_path / "a")
    for version in range(3):
        world.step(version)
        world.end_tick()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    log = tmp_path / "b" / f"{rows.FILE}-wal"
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - rows.PAGE_BYTES)
    with pytest.raises(JournalError, match="its end is missing"):
        Kept(tmp_path / "b")


@pytest.mark.parametrize("left", [0, 1])
def test_files_that_a_power_failure_has_emptied_are_no_new_journal(tmp_path: Path, left: int) -> None:
    world = Kept(tmp_path / "a")
    world.step(0)
    world.end_tick()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    _truncate(rows.FILE, left)(tmp_path / "b")
    _truncate(rows.MARK, 0)(tmp_path / "b")
    with pytest.raises(JournalError, match=r"journal.db was cut off"):
        Kept(tmp_path / "b")


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        (Identity("other", 2, LIMITS), "of the run run"),
        (Identity("run", 4, LIMITS), "another group_size"),
        (Identity("run", 2, dataclasses.replace(LIMITS, max_staleness=3)), "another max_staleness"),
    ],
)
def test_the_journal_of_something_else_is_refused(tmp_path: Path, identity: Identity, said: str) -> None:
    world = Kept(tmp_path)
    world.end_tick()
    world.journal.close()
    with pytest.raises(JournalError, match=said):
        Journal(tmp_path, identity, JournalConfig())


def test_leases_may_be_of_another_length_from_a_resume_on(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    (task,) = world.lease()
    world.end_tick()
    world.limits = dataclasses.replace(LIMITS, lease_seconds=100.0)
    world.crash()
    world.now = 50.0
    world.end_tick()
    assert world.submit(task)["accepted"]


def test_a_curriculum_may_come_change_and_go_from_a_resume_on(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    world.step(0)
    world.end_tick()
    curricula = []
    for floor in (0.25, 0.5, 1.0):
        world.limits = dataclasses.replace(LIMITS, curriculum_floor=floor)
        world.crash()
        world.step(world.buffer.ledger.version)
        world.end_tick()
        curricula.append(world.buffer.ledger.tasks.curriculum)
    assert [(each.floor, len(each.standings)) for each in curricula] == [(0.25, 2), (0.5, 4), (1.0, 4)]


# -------------------------------------------------------------------- bytes that were changed


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A journal whose process was killed, and what is in it."""
    folder = tmp_path_factory.mktemp("written")
    world = with_a_log(folder / "a")
    shutil.copytree(folder / "a", folder / "b")
    return folder / "b", world.contents()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_are_refused_or_change_nothing(
    written: tuple[Path, dict[str, Any]], tmp_path: Path, data: st.DataObject
) -> None:
    source, contents = written
    shutil.rmtree(tmp_path / "j", ignore_errors=True)
    shutil.copytree(source, tmp_path / "j")
    for _ in range(data.draw(st.integers(1, 4))):
        file = tmp_path / "j" / data.draw(st.sampled_from(sorted(path.name for path in source.iterdir())))
        place = data.draw(st.integers(0, file.stat().st_size - 1))
        with file.open("r+b") as opened:
            opened.seek(place)
            (before,) = opened.read(1)
            opened.seek(place)
            opened.write(bytes([before ^ data.draw(st.integers(1, 255))]))
    try:
        world = Kept(tmp_path / "j")
    except (JournalError, JournalBlockedError):
        return
    found = world.contents()
    world.journal.close()
    assert without_deadlines(found.pop("state")) == without_deadlines(dict(contents)["state"])
    assert found == {name: value for name, value in contents.items() if name != "state"}
