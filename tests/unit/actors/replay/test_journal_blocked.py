"""The journal where it cannot be written, and where its process ends at any statement."""

import sqlite3
from pathlib import Path
from typing import Any, cast

from actors.events import Phase
from actors.replay import rows
from actors.transport.codec import Message
from tests.unit.actors.replay.journal_world import Kept, plain, without_deadlines


def test_where_the_disk_is_full_nobody_is_told_anything_and_nothing_is_lost(tmp_path: Path) -> None:
    made: list[sqlite3.Connection] = []

    def small(path: str) -> sqlite3.Connection:
        made.append(rows.connect(path))
        return made[-1]

    world = Kept(tmp_path, small)
    world.end_tick()
    pages = made[0].execute("PRAGMA page_count").fetchone()[0]
    made[0].execute(f"PRAGMA max_page_count = {pages}")
    world.say("evaluate", "learner", name="n" * 80, version=0, samples=2)
    tasks = world.lease(capacity=3)
    for task in tasks:
        task["samples"] = 2
        world.say(
            "group_arrived",
            "generator",
            payload_arrays(),
            purpose="evaluate",
            group_id=task["group_id"],
            prompt="p" * 60_000,
            texts=["a", "b"],
        )
    world.outbox.add(b"generator", Message("reply", 1))
    world.end_tick()
    assert "full" in world.outbox.blocked and not world.sent
    last = world.board._news(0)
    assert last is not None and "full" in last["events"][-1]["reason"], "whoever watches is told at once"
    world.outbox.add(b"generator", Message("busy", 2))
    assert [message.kind for message in world.sent] == ["busy"]
    world.now += 1.0
    world.outbox.flush()
    assert world.outbox.blocked
    expected = plain(world.buffer.state.state())
    made[0].execute("PRAGMA max_page_count = 100000")
    world.now += 1.0
    world.outbox.flush()
    assert not world.outbox.blocked
    assert [message.kind for message in world.sent] == ["busy", "reply"]
    world.end_tick()
    world.crash()
    assert without_deadlines(plain(world.buffer.state.state())) == without_deadlines(expected)
    events = world.contents()["events"]
    assert [event["reason"] != "" for event in events if event["kind"] == "write_failed"] == [True, False]


def test_what_could_be_lost_is_told_to_no_watcher_until_it_is_durable(tmp_path: Path) -> None:
    made: list[sqlite3.Connection] = []

    def small(path: str) -> sqlite3.Connection:
        made.append(rows.connect(path))
        return made[-1]

    def told(after: int) -> tuple[list[str], int]:
        news = world.board._news(after) or {"events": [], "last": after}
        return [event["kind"] for event in news["events"]], news["last"]

    world = Kept(tmp_path, small)
    world.step(0)
    world.end_tick()
    kinds, seen = told(0)
    assert "step" in kinds and world.board.last == seen
    made[0].execute(f"PRAGMA max_page_count = {made[0].execute('PRAGMA page_count').fetchone()[0]}")
    world.record((Phase(name="saving", detail="d" * 100_000),))
    world.end_tick()
    assert world.outbox.blocked
    kinds, alarmed = told(seen)
    assert kinds == ["write_failed"] and world.board.last == alarmed
    assert told(alarmed) == ([], alarmed), "the alarm is told once"
    made[0].execute("PRAGMA max_page_count = 100000")
    world.now += 1.0
    world.outbox.flush()
    kinds, _ = told(alarmed)
    assert kinds == ["phase", "write_failed"]
    everything = told(0)
    world.end_tick()
    world.crash()
    assert told(0) == everything


def payload_arrays() -> Any:
    from tests.unit.actors.replay.buffer_world import payload

    return payload().arrays()


def test_leases_that_nobody_could_renew_begin_anew(tmp_path: Path) -> None:
    made: list[Any] = []

    class Full:
        """A connection to a disk that is full whenever it is said to be."""

        full = False

        def __init__(self, path: str) -> None:
            self._real = rows.connect(path)
            made.append(self)

        def execute(self, statement: str, *arguments: Any) -> Any:
            if self.full and statement == "COMMIT":
                self._real.execute("ROLLBACK")
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return self._real.execute(statement, *arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    world = Kept(tmp_path, lambda path: cast("sqlite3.Connection", Full(path)))
    (task,) = world.lease()
    world.end_tick()
    made[0].full = True
    world.lease()
    world.outbox.flush()
    assert world.outbox.blocked
    world.now = 60.0
    made[0].full = False
    world.outbox.flush()
    world.end_tick()
    assert world.submit(task)["accepted"]


# -------------------------------------------------------------------- a crash at every write


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """A connection whose process ends before its n-th statement, counted over all of them; see `statements`."""

    def __init__(self, path: str, statements: list[int]) -> None:
        self._real, self._statements = rows.connect(path), statements

    def _live(self) -> None:
        self._statements[0] -= 1
        if self._statements[0] == 0:
            raise Killed

    def execute(self, *arguments: Any) -> Any:
        self._live()
        return self._real.execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        self._live()
        return self._real.executemany(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def mortal(statements: list[int]) -> rows.Connect:
    return lambda path: cast("sqlite3.Connection", Mortal(path, statements))


def test_a_crash_at_any_statement_leaves_whole_ticks(tmp_path: Path) -> None:
    def history(world: Kept, seen: list[Any]) -> None:
        for version in range(3):
            world.step(version)
            seen.append(world.contents())
            world.end_tick()
            if version:
                world.say("committed", "learner", version=version)
                seen.append(world.contents())
                world.end_tick()

    statement, ended = 0, False
    empty = Kept(tmp_path / "empty").contents()
    while not ended:
        statement += 1
        folder, left, seen = tmp_path / str(statement), [statement], [empty]
        worlds: list[Kept] = []
        try:
            worlds.append(Kept(folder / "a", mortal(left)))
            history(worlds[0], seen)
            ended = True
        except Killed:
            pass
        for world in worlds:
            world.journal.close()
        assert Kept(folder / "a").contents() in seen[-2:]
    assert statement > 50
