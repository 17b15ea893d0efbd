"""The journal: what a replay that died is brought back to."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.events import StepDone
from actors.replay.board import Board, first_event
from actors.replay.journal import FOLDER, Journal
from actors.replay.kept import KeptFiles
from actors.replay.messages import CompletionVerdict
from tests.unit.actors.replay.journal_world import LIMITS, Kept


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


def test_what_a_teacher_has_said_is_back_after_a_crash_and_gone_with_its_group(tmp_path: Path) -> None:
    world = Kept(tmp_path / FOLDER, teacher=True, keep="all")
    for said, task in enumerate(world.lease(capacity=2)):
        world.submit(task)
        world.end_tick()
        world.say("lease_verification", "verifier", capacity=1)
        scores = [{"status": "ok", "reward": 1.0}, {"status": "ok", "reward": 0.0}]
        arrays = {"teacher_logprobs": np.full(6, -1 - said, np.float32)}
        world.say("verdict", "verifier", arrays, purpose="train", group_id=task["group_id"], scores=scores)
        world.end_tick()
        world.crash()
    world.train(0)
    before = world.contents()
    world.end_tick()
    world.crash()
    assert world.contents() == before
    delivered = world.say("take_batch", "learner", version=0)["arrays"]
    assert [delivered[f"{i}.teacher_logprobs"].tolist() for i in range(2)] == [[-1.0] * 6, [-2.0] * 6]
    world.say("committed", "learner", version=1)
    world.end_tick()
    world.journal.close()
    ((_, groups),) = Journal.read(tmp_path)
    assert [p.teacher_logprobs.tolist() for _, p in groups if p.teacher_logprobs is not None] == [
        [-1.0] * 6,
        [-2.0] * 6,
    ]


def test_a_group_that_is_dropped_in_the_tick_of_its_verdict_leaves_nothing(tmp_path: Path) -> None:
    world = Kept(tmp_path, teacher=True, limits=replace(LIMITS, drop_zero_variance=True))
    (task,) = world.lease(capacity=1)
    world.submit(task)
    world.end_tick()
    assert world.keys("groups") == [task["group_id"]]
    world.say("lease_verification", "verifier", capacity=1)
    scores = [{"status": "ok", "reward": 1.0}] * 2
    arrays = {"teacher_logprobs": np.full(6, -1, np.float32)}
    world.say("verdict", "verifier", arrays, purpose="train", group_id=task["group_id"], scores=scores)
    world.end_tick()
    world.end_tick()
    assert world.keys("groups") == [] and world.keys("scores") == []
