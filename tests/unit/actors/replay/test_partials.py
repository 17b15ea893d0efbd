"""Generators that die, leave or get stuck: what of their groups is continued, by whom, and what it counts as."""

from typing import Any

import numpy as np
import pytest

from actors.errors import ProtocolError
from actors.replay.limits import Reason
from actors.replay.progress import NOTHING, End, Partial, encode_progress, leased_parts
from tests.unit.actors.replay.buffer_world import World


def part(length: int, version: int = 0, end: End = End.RUNNING) -> Partial:
    tokens = np.arange(length, dtype=np.int32)
    return Partial(tokens, np.full(length, -0.5, np.float32), ((version, length),), end)


def report(world: World, task: dict[str, Any], parts: list[Partial], worker: str = "generator") -> dict[str, Any]:
    arrays, lease = encode_progress(parts, [0] * len(parts)), {k: task[k] for k in ("purpose", "group_id")}
    answer: dict[str, Any] = world.say("progress", "generator", arrays, **lease, worker=worker)
    return answer


def leased(world: World, version: int = 0) -> tuple[dict[str, Any], list[Partial]]:
    """The next task, and what is known of it."""
    (task,) = world.lease(version=version)
    return task, leased_parts(world.last.arrays, [task])[0]


def stepped(world: World) -> None:
    """One batch is generated, scored and trained; the version is one higher."""
    version = world.buffer.ledger.version
    world.submit(world.lease(version=version)[0], version)
    world.score([1.0, 0.0])
    assert world.say("take_batch", "learner", version=version)
    world.say("trained", "learner", version=version, statistics={}, staleness={}, step_seconds=0.1)


def test_another_generator_continues_what_a_dead_one_has_reported() -> None:
    world = World()
    first, begun = leased(world)
    assert begun == []
    assert report(world, first, [part(4), part(2, end=End.STOPPED)])["held"] == [4, 2]
    world.buffer.worker_lost("generator")
    again, begun = leased(world)
    assert again["task"] == first["task"] and again["group_id"] != first["group_id"]
    assert [(len(p), p.end, p.spans) for p in begun] == [(4, End.RUNNING, ((0, 4),)), (2, End.STOPPED, ((0, 2),))]
    assert world.submit(again)["accepted"]
    assert world.buffer.partials.nbytes == 0


def test_progress_survives_one_generator_after_another() -> None:
    world = World(generation_attempts=2)
    for tokens in range(1, 5):
        task, begun = leased(world)
        assert [len(p) for p in begun] == ([tokens - 1, 0] if tokens > 1 else [])
        report(world, task, [part(tokens), NOTHING])
        world.buffer.worker_lost("generator")
    assert world.buffer.ledger.dropped[Reason.ATTEMPTS_EXHAUSTED] == 0, "it gets on, so it is not what they die of"
    for _ in range(2):
        leased(world)
        world.buffer.worker_lost("generator")
    assert world.buffer.ledger.dropped[Reason.ATTEMPTS_EXHAUSTED] == 1, "they die of it without a new token"
    assert world.buffer.partials.nbytes == 0


def test_new_tokens_renew_a_lease_and_a_lost_lease_is_named() -> None:
    world = World(lease_seconds=10.0)
    (task,) = world.lease()
    world.now = 9.0
    assert report(world, task, [part(1), NOTHING])["lost"] == []
    world.now = 18.0
    world.buffer.expire(world.now)
    assert report(world, task, [part(2), NOTHING])["lost"] == []
    assert report(world, task, [part(3), NOTHING], worker="another")["lost"] == [task["group_id"]]
    world.now = 29.0
    world.buffer.expire(world.now)
    assert report(world, task, [part(3), NOTHING])["lost"] == [task["group_id"]]
    renewed = world.say("renew", "generator", purpose="train", group_ids=[task["group_id"]])
    assert renewed["lost"] == [task["group_id"]]
    assert [len(p) for p in leased(world)[1]] == [2, 0]


def test_a_prefix_over_the_bound_is_not_continued() -> None:
    world = World(max_staleness=1)
    task, _ = leased(world)
    stepped(world)
    report(world, task, [part(3, version=0), part(1, version=1)])
    stepped(world)
    world.buffer.worker_lost("generator")
    again, begun = leased(world, version=2)
    assert again["task"] == task["task"]
    assert [len(p) for p in begun] == [0, 1], "of version 0 nothing can be trained at version 2"


def test_a_malformed_report_changes_nothing() -> None:
    world = World(lease_seconds=10.0)
    (task,) = world.lease()
    report(world, task, [part(2), NOTHING])
    world.now = 9.0
    good = encode_progress([part(3), NOTHING], [0, 0])
    lease = {k: task[k] for k in ("purpose", "group_id")}
    for name, array in good.items():
        with pytest.raises(ProtocolError):
            world.say("progress", "generator", good | {name: array.astype(np.float64)}, **lease)
    world.now = 11.0
    world.buffer.expire(world.now)
    assert [len(p) for p in leased(world)[1]] == [2, 0]


def test_who_leaves_gives_everything_back_and_no_attempt_counts() -> None:
    world = World(generation_attempts=1, verify_attempts=1, max_staleness=2)
    world.submit(world.lease()[0])
    task, _ = leased(world)
    report(world, task, [part(2), NOTHING])
    (group,) = world.say("lease_verification", "verifier", capacity=1)["groups"]
    for leaver in ("generator", "verifier"):
        world.buffer.worker_lost(leaver, on_purpose=True)
    assert world.buffer.ledger.dropped == {Reason.RETURNED: 1}
    assert world.buffer.ledger.conserved()
    assert [len(p) for p in leased(world)[1]] == [2, 0]
    (again,) = world.say("lease_verification", "verifier", capacity=1)["groups"]
    assert again["group_id"] == group["group_id"]


def test_an_evaluation_is_continued_and_the_next_one_begins_anew() -> None:
    world = World()
    world.say("evaluate", "learner", name="before", version=0, samples=1)
    tasks = world.lease(capacity=3)
    report(world, tasks[0], [part(2)])
    for task in tasks[1:]:
        world.submit(task)
    world.buffer.worker_lost("generator")
    again, begun = leased(world)
    assert (again["key"], [len(p) for p in begun]) == (tasks[0]["key"], [2])
    report(world, again, [part(3)])
    world.submit(again)
    for _ in range(3):
        world.score([1.0])
    assert world.buffer.evaluations.current is None
    late = report(world, again, [part(4)])
    assert late["lost"] == [again["group_id"]]
    world.say("evaluate", "learner", name="after", version=0, samples=1)
    assert leased(world)[1] == []
    assert world.buffer.partials.nbytes == 0
