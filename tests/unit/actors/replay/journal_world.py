"""A replay with its journal, and without its socket, for the tests of what that brings back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.config.roles import JournalConfig
from actors.events import Event
from actors.replay import journal as journals
from actors.replay import rows
from actors.replay.board import Board, first_event
from actors.replay.buffer import Buffer
from actors.replay.journal import Identity, Journal
from actors.replay.kept import KeptFiles
from actors.replay.limits import ReplayLimits
from actors.replay.outbox import Outbox
from actors.transport.codec import Message
from tests.unit.actors.replay.buffer_world import Sums, World

LIMITS = ReplayLimits(max_staleness=1, groups_per_batch=2, lease_seconds=10.0, verify_lease_seconds=5.0)


class Watched(World):
    """A world whose events go to a board, as the service sees to it."""

    def __init__(self, limits: ReplayLimits = LIMITS, tasks: Sums | None = None) -> None:
        super().__init__()
        self.limits, self.tasks = limits, tasks or Sums()
        self.buffer = Buffer(self.limits, 2, self.tasks)
        self.board = Board(20.0)

    def say(self, kind: str, role: str, arrays: Mapping[str, Any] | None = None, **body: Any) -> Any:
        reply = super().say(kind, role, arrays, **body)
        self.record(self.last.events)
        return reply

    def record(self, events: tuple[Event, ...]) -> None:
        for event in events:
            self.board.record(event)

    def end_tick(self) -> None:
        self.record(self.buffer.expire(self.now))

    def step(self, version: int) -> Any:
        for task in self.lease(capacity=2, version=version):
            self.submit(task, version)
            self.score([1.0, 0.0])
        return self.train(version)

    def train(self, version: int) -> Any:
        batch = self.say("take_batch", "learner", version=version)
        self.say("trained", "learner", version=version, statistics={}, staleness={}, step_seconds=1.0)
        return batch

    def contents(self) -> dict[str, Any]:
        """Everything that anybody can be told."""
        events = self.board._news(0) or {"events": []}
        batches = {v: self.delivered(v) for v in self.buffer.ledger.batches}
        return {
            "state": in_order(plain(self.buffer.state.state())),
            "status": self.buffer.state.status(),
            "events": events["events"],
            "batches": batches,
            "records": {key: (r.task, r.prompt, r.texts, r.scores) for key, r in self.buffer.records.items()},
        }

    def delivered(self, version: int) -> Any:
        delivered = self.buffer.ledger.batches[version]
        return [
            {name: array.tobytes() for name, array in payload.arrays().items()}
            for group_id in delivered
            if (payload := self.buffer.records["train", group_id].payload) is not None
        ]


def plain(value: Any) -> Any:
    """As MessagePack gives it back; deadlines aside, which begin anew with every process."""
    return journals._unpacked(journals._packed(value))


def in_order(state: Any) -> Any:
    """What is ready is a heap, of which the order alone counts in which it is taken."""
    for ledger in filter(None, (state["train"], state["evaluations"]["current"])):
        ledger["ready"].sort()
    return state


class Kept(Watched):
    """A world with a journal. `crash` loses what no tick has made durable, and comes up again."""

    def __init__(
        self,
        folder: Path,
        connect: rows.Connect = rows.connect,
        limits: ReplayLimits = LIMITS,
        tasks: Sums | None = None,
        teacher: bool = False,
        **config: Any,
    ) -> None:
        super().__init__(limits, tasks)
        self.teacher = teacher
        self.folder, self.connect, self.config = folder, connect, JournalConfig(**config)
        self.sent: list[Message] = []
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.folder, Identity("run", 2, self.limits), self.config, self.connect)
        past, events = self.journal.past, self.journal.events
        self.buffer = Buffer(self.limits, 2, self.tasks, past=past, now=self.now, teacher=self.teacher)
        if past is not None:
            self.journal.retain(self.buffer.records)
        self.board = Board(20.0, events, first_event(events, 0.0))
        send, files = (lambda _, message: self.sent.append(message)), KeptFiles(self.folder, sync=False)
        self.outbox = Outbox(send, self.buffer, self.board, self.journal, lambda: self.now, files)

    def end_tick(self) -> None:
        super().end_tick()
        self.outbox.flush()

    def crash(self) -> None:
        self.journal.close()
        self.open()

    def keys(self, table: str) -> list[int]:
        return self.journal._rows.keys(table)


def with_a_log(folder: Path, **config: Any) -> Kept:
    """A world whose journal has rows in its file, and later ones in the log that has not gone into the file yet."""
    world = Kept(folder, **config)
    for version in range(3):
        world.step(version)
        world.end_tick()
    world.journal._rows._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    world.step(3)
    world.lease(version=4)
    world.end_tick()
    return world


def without_deadlines(state: Any) -> Any:
    for part in (state["train"], state["evaluations"]["current"]):
        for entry in (entry for queue in part["groups"].values() for entry in queue) if part else ():
            entry[4] = None
    return state
