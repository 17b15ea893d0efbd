"""The journal: what a replay that died is brought back to."""

import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.config.roles import JournalConfig
from actors.errors import JournalBlockedError, JournalError, JournalHeldError
from actors.events import Event, Phase, StepDone
from actors.replay import journal as journals
from actors.replay import rows
from actors.replay.board import Board, first_event
from actors.replay.buffer import Buffer
from actors.replay.journal import FOLDER, Identity, Journal
from actors.replay.kept import KeptFiles
from actors.replay.limits import ReplayLimits
from actors.replay.messages import CompletionVerdict
from actors.replay.outbox import Outbox
from actors.transport.codec import Message
from tests.unit.actors.replay.test_buffer import Sums, World

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
        **config: Any,
    ) -> None:
        super().__init__(limits, tasks)
        self.folder, self.connect, self.config = folder, connect, JournalConfig(**config)
        self.sent: list[Message] = []
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.folder, Identity("run", 2, self.limits), self.config, self.connect)
        past, events = self.journal.past, self.journal.events
        self.buffer = Buffer(self.limits, 2, self.tasks, past=past, now=self.now)
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


def test_a_replay_that_died_goes_on_where_it_was(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    world.step(0)
    first, second = world.lease(capacity=2, version=1)
    world.submit(first, 1)
    world.end_tick()
    before = world.contents()
    world.crash()
    assert world.contents() == before
    world.score([1.0, 0.0])
    assert world.submit(second, 1)["accepted"], "its lease goes on"


def test_what_no_tick_has_written_never_happened(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    world.end_tick()
    before = world.contents()
    world.lease(capacity=2)
    world.crash()
    assert world.contents() == before


def test_leases_begin_anew_on_the_clock_of_the_new_process(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    world.now = 1000.0
    (task,) = world.lease()
    world.end_tick()
    world.now = 3.0
    world.crash()
    world.now = 12.0
    world.end_tick()
    assert world.submit(task)["accepted"]
    world.crash()  # what was not written is lost, and the lease is as it was
    world.now = 23.0
    world.end_tick()
    assert not world.submit(task)["accepted"], "its ten seconds are over"


def test_an_evaluation_that_somebody_waits_for_ends_after_a_crash(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    number = world.say("evaluate", "learner", name="before", version=0, samples=2)["evaluation"]
    first, *others = world.lease(capacity=3)
    world.submit(first)
    world.score([1.0, 1.0])
    world.submit(others[0])
    world.end_tick()
    world.crash()
    world.submit(others[1])
    for _ in others:
        world.score([0.0, 1.0])
    found = world.say("evaluation_result", "learner", evaluation=number)["result"]
    assert (found["n"], found["pass_at_1"]) == (3, pytest.approx(2 / 3))
    world.end_tick()
    assert world.keys("groups") == world.keys("scores") == []
    world.crash()
    assert world.say("evaluation_result", "learner", evaluation=number)["result"] == found
    again = world.say("evaluate", "learner", name="before", version=0, samples=2)["evaluation"]
    assert again == number, "a learner that was replaced asks again, and is told at once"


def test_no_completion_of_a_sampling_is_lost_or_there_twice(tmp_path: Path) -> None:
    world, file = Kept(tmp_path), tmp_path / "samples-drawn.jsonl"
    asked: dict[str, Any] = {
        "name": "sample",
        "version": 0,
        "samples": 2,
        "training": 3,
        "keep": True,
        "provenance": {"model": "m"},
    }
    number = world.say("evaluate", "learner", **asked)["evaluation"]
    first, *others = world.lease(capacity=3)
    assert [task["purpose"] for task in (first, *others)] == ["sample"] * 3
    assert first["key"] == "t0", "training tasks, and none that is held out"
    world.submit(first)
    world.score([1.0, 0.5])
    world.end_tick()
    counted = file.read_bytes()
    assert world.keys("groups") == world.keys("scores") == [], "what is in the file need not be in the journal"
    world.submit(others[0])
    world.end_tick()
    world.score([0.0, 1.0])
    KeptFiles(tmp_path, sync=False).write(world.buffer.state.changes.kept)  # and it dies before its transaction
    assert file.read_bytes() != counted
    world.crash()
    world.score([0.0, 0.0])
    world.end_tick()
    world.submit(others[1])
    world.score([1.0, 1.0])
    world.end_tick()
    rows = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [(row["task"], row["sample"], row["reward"]) for row in rows] == [
        ("t0", 0, 1.0), ("t0", 1, 0.5), ("t1", 0, 0.0), ("t1", 1, 0.0), ("t2", 0, 1.0), ("t2", 1, 1.0),
    ]  # fmt: skip
    assert rows[0].items() >= {"model": "m", "source": "even", "verifier": "exact", "tokens": 3}.items()
    result = world.say("evaluation_result", "learner", evaluation=number)["result"]
    assert (result["n"], result["pass_at_k"]) == (3, pytest.approx(2 / 3))
    assert result["by_source"].keys() == {"even", "odd"}


def test_nobody_is_told_of_a_completion_that_cannot_be_written(tmp_path: Path) -> None:
    world, file = Kept(tmp_path), tmp_path / "samples-drawn.jsonl"
    file.mkdir()
    world.say("evaluate", "learner", name="sample", version=0, samples=2, training=1, keep=True)
    world.submit(world.lease()[0])
    world.score([1.0, 0.0])
    world.outbox.flush()
    assert "samples-drawn.jsonl: cannot be written (Is a directory)" in world.outbox.blocked
    file.rmdir()
    world.now += 1.0
    world.outbox.flush()
    assert not world.outbox.blocked and len(file.read_bytes().splitlines()) == 2


def test_an_evaluation_in_a_journal_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    number = world.say("evaluate", "learner", name="before", version=0, samples=2)["evaluation"]
    for task in world.lease(capacity=2):
        world.submit(task)
    world.end_tick()
    state = world.buffer.state
    now = state.state
    for entry in list(world.buffer.evaluations.current.ledger.entries.values()):  # type: ignore[union-attr]
        scores = tuple(CompletionVerdict(status="ok", reward=r, answer="1") for r in (1.0, 0.0))
        ledger = state.ledger_of("evaluate")
        assert ledger is not None and ledger.verdict(entry.group_id, [1.0, 0.0])
        state.changes.scores["evaluate", entry.group_id] = scores

    def earlier() -> dict[str, Any]:
        found = now()
        found["evaluations"] = {k: v for k, v in found["evaluations"].items() if k not in ("results", "written")}
        found["evaluations"]["asked"] = [["before", 0, 2]]
        return found

    world.journal._state_due = True
    world.journal.write(state.take_changes(), [], 0, earlier)
    world.crash()
    world.submit(world.lease()[0])
    world.score([1.0, 1.0])
    result = world.say("evaluation_result", "learner", evaluation=number)["result"]
    assert (result["n"], result["pass_at_1"]) == (3, pytest.approx(2 / 3))


def test_a_watcher_goes_on_after_the_event_that_it_was_told_last(tmp_path: Path) -> None:
    world = Kept(tmp_path)
    world.step(0)
    world.end_tick()
    told = world.board._news(0)
    assert told is not None
    world.step(1)
    world.end_tick()
    world.crash()
    fresh = world.board._news(told["last"])
    assert fresh is not None
    assert [event["step"] for event in fresh["events"] if event["kind"] == "step"] == [2]
    world.step(2)
    after = world.board._news(fresh["last"])
    assert after is not None
    assert [event["step"] for event in after["events"] if event["kind"] == "step"] == [3]


def test_events_that_no_journal_has_take_no_number_from_those_that_come() -> None:
    board = Board(20.0, first_event=first_event([], 1000.0))
    board.record(StepDone(step=1, version=1, statistics={}, staleness={}, step_seconds=1.0))
    news = board._news(0)
    assert news is not None and news["last"] < first_event([], 1000.1)


def test_a_learner_that_comes_back_gets_the_same_batches_and_its_steps_replace_the_earlier_ones(
    tmp_path: Path,
) -> None:
    world = Kept(tmp_path)
    batches = [world.step(version) for version in range(3)]
    world.end_tick()
    steps = [e for e in world.contents()["events"] if e["kind"] == "step"]
    world.crash()
    world.say("trained", "learner", version=2, statistics={}, staleness={}, step_seconds=1.0)
    assert not world.last.events, "whoever lost the answer asks again, and nothing new has happened"
    for version in range(1, 3):
        again = world.train(version)
        assert again["groups"] == batches[version]["groups"]
        step = world.last.events[0]
        found = step.model_dump(mode="json") | {"number": steps[version]["number"]}  # which only the board gives
        assert found == steps[version], "with the rewards of the first time"
    assert world.buffer.state.status()["groups"]["trained"] == 6
    world.step(3)
    assert world.buffer.state.status()["version"] == 4


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


# -------------------------------------------------------------------- a disk that is full


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
    from tests.unit.actors.replay.test_buffer import payload

    return payload().arrays()


def without_deadlines(state: Any) -> Any:
    for part in (state["train"], state["evaluations"]["current"]):
        for entry in (entry for queue in part["groups"].values() for entry in queue) if part else ():
            entry[4] = None
    return state


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


# -------------------------------------------------------------------- bytes that were changed


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A journal whose process was killed, and what is in it."""
    folder = tmp_path_factory.mktemp("written")
    world = Kept(folder / "a")
    for version in range(3):
        world.step(version)
        world.end_tick()
    world.journal._rows._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    world.step(3)
    world.lease(version=4)
    world.end_tick()
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
