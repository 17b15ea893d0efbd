"""The journal: what a replay that died is brought back to."""

from pathlib import Path
from typing import Any

import pytest

from actors.config.roles import JournalConfig
from actors.errors import JournalError
from actors.replay.board import Board, first_event
from actors.replay.buffer import Buffer
from actors.replay.journal import Identity, Journal
from actors.replay.ledger import ReplayLimits
from actors.replay.outbox import Outbox
from tests.unit.actors.replay.test_buffer import Sums, World

LIMITS = ReplayLimits(max_staleness=1, groups_per_batch=2)


class Kept(World):
    """A world with a journal. `crash` loses what no tick has made durable, and comes up again."""

    def __init__(self, folder: Path, **config: Any) -> None:
        super().__init__()
        self.folder, self.config = folder, JournalConfig(**config)
        self.journal: Journal | None = None
        self.reopen()

    def reopen(self) -> None:
        self.journal = Journal(self.folder, Identity("run", 2, LIMITS), self.config)
        self.buffer = Buffer(LIMITS, 2, Sums(), past=self.journal.past, now=self.now)
        if self.journal.past is not None:
            self.journal.retain(self.buffer.records)
        events = self.journal.events
        self.board = Board(20.0, self.buffer.state.directory, events, first_event(events, 0.0))
        self.outbox = Outbox(lambda *_: None, self.buffer, self.board, self.journal, lambda: self.now)

    def tick(self) -> None:
        self.buffer.expire(self.now)
        self.outbox.flush()

    def crash(self) -> None:
        assert self.journal is not None
        self.journal.close()
        self.reopen()

    def step(self, version: int) -> Any:
        for task in self.lease(capacity=2, version=version):
            self.submit(task, version)
            self.score([1.0, 0.0])
        batch = self.say("take_batch", "learner", version=version)
        self.say("trained", "learner", version=version, statistics={}, staleness={}, step_seconds=1.0)
        return batch


def test_a_replay_that_died_goes_on_where_it_was(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    batch = world.step(0)
    first, second = world.lease(capacity=2, version=1)
    world.submit(first, 1)
    before = world.buffer.status()
    world.tick()
    world.crash()
    assert world.buffer.status() == before
    again = world.say("take_batch", "learner", version=0)
    assert again["groups"] == batch["groups"]
    assert {name: array.tobytes() for name, array in again["arrays"].items()} == {
        name: array.tobytes() for name, array in batch["arrays"].items()
    }
    world.score([1.0, 0.0])
    assert world.submit(second, 1)["accepted"], "its lease goes on"


def test_what_no_tick_has_written_never_happened(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    world.tick()
    before = world.buffer.status()
    world.lease(capacity=2)
    world.crash()
    assert world.buffer.status() == before


def test_two_processes_never_have_one_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.replay.rows.LOCK_SECONDS", 0.0)
    world = Kept(tmp_path)
    world.tick()
    with pytest.raises(JournalError, match="another process"):
        Kept(tmp_path)
