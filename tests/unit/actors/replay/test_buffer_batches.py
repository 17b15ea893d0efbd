"""The replay without its socket: batches for the learner, what is trained, and what is said of a step."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from actors.errors import ProtocolError
from actors.events import RolloutSample, StepDone
from actors.replay.buffer import Buffer
from actors.replay.delivery import Delivery
from actors.replay.rewards import Verified
from tests.unit.actors.replay.buffer_world import Sums, World, payload


def test_what_is_late_is_counted_by_its_length() -> None:
    dropping, masking = World(max_staleness=0), World(max_staleness=0, stragglers="mask")
    for world in (dropping, masking):
        (task,) = world.lease()
        world.say(
            "group_arrived",
            "generator",
            replace(payload(), span_versions=np.array([0, 1], np.int32)).arrays(),
            purpose="train",
            group_id=task["group_id"],
            prompt="p",
            texts=["a", "a"],
        )
        assert world.last.submitted == 3
        world.score([1.0, 0.0])
        batch = world.say("take_batch", "learner", version=1)
        assert (batch is None) is (world is dropping)
    assert masking.last.delivered == (Delivery(1, 0.0, length=3, masked_tokens=3),)
    dropping.buffer.expire(0.0)
    assert dropping.buffer.dropped == [("stale", 3)]


def test_the_same_batch_is_delivered_again_until_it_is_committed() -> None:
    world = World()
    world.submit(world.lease()[0])
    world.score([1.0, 0.0])
    first = world.say("take_batch", "learner", version=0)
    world.say("trained", "learner", version=0, statistics={}, staleness={}, step_seconds=0.1)
    again = world.say("take_batch", "learner", version=0)
    assert again["groups"] == first["groups"]
    assert all((again["arrays"][name] == array).all() for name, array in first["arrays"].items())


def test_what_a_learner_that_came_back_says_again_changes_nothing() -> None:
    world = World()
    learn = partial(world.say, role="learner")
    for version in range(2):
        (task,) = world.lease(version=version)
        world.submit(task, version)
        world.score([1.0, 0.0])
        learn("take_batch", version=version)
        learn("trained", version=version, statistics={}, staleness={}, step_seconds=1.0)
    learn("committed", version=1)
    counts = world.buffer.state.status()
    again = learn("take_batch", version=1)
    learn("trained", version=1, statistics={}, staleness={}, step_seconds=1.0)
    learn("committed", version=1)
    assert again["groups"][0]["group_id"] == 1
    assert world.buffer.state.status() == counts


def test_a_batch_that_is_committed_is_never_made_up_of_other_groups() -> None:
    world = World()
    for version in range(2):
        (task,) = world.lease(version=version)
        world.submit(task, version)
        world.score([1.0, 0.0])
        if version == 0:
            world.say("take_batch", "learner", version=0)
            world.say("trained", "learner", version=0, statistics={}, staleness={}, step_seconds=1.0)
            world.say("committed", "learner", version=1)
    with pytest.raises(ProtocolError, match="the batch of version 0 is committed"):
        world.say("take_batch", "learner", version=0)
    with pytest.raises(ProtocolError, match="a newer checkpoint than the learner's was durable"):
        world.say("committed", "learner", version=0)
    assert world.say("take_batch", "learner", version=1)["groups"][0]["group_id"] == 1


def test_a_late_verdict_does_not_change_a_delivered_batch() -> None:
    world = World(verify_lease_seconds=1.0)
    world.submit(world.lease()[0])
    (slow,) = world.say("lease_verification", "verifier", capacity=1)["groups"]
    world.now = 2.0
    world.buffer.expire(world.now)
    world.score([1.0, 0.0])
    first = world.say("take_batch", "learner", version=0)
    scores = [{"status": "ok", "reward": 0.5, "parts": {"accuracy": 0.5}}] * 2
    world.say("verdict", "verifier", purpose="train", group_id=slow["group_id"], scores=scores)
    assert world.say("take_batch", "learner", version=0)["groups"] == first["groups"]


def test_a_step_tells_what_happened_since_the_last_one() -> None:
    world = World(groups_per_batch=2, drop_zero_variance=True)
    for task in world.lease(capacity=3):
        world.submit(task)
    world.now = 2.0
    for rewards in ([1.0, 0.0], [0.5, 0.5], [0.0, 1.0]):
        world.score(rewards)
    parts = ({"accuracy": 0.0}, {"accuracy": 1.0})
    assert world.last.verified == (Verified("even", (0.0, 1.0), parts, accuracy=0.5, tokens=6),)
    world.now = 5.0
    world.say("take_batch", "learner", version=0)
    assert world.last.delivered == (Delivery(0, 3.0, length=3), Delivery(0, 3.0, length=3, group_id=2))
    world.say("take_batch", "learner", version=0)
    assert not world.last.delivered, "a repeated delivery counts once"
    body: dict[str, Any] = {
        "version": 0,
        "statistics": {"loss": float("nan")},
        "staleness": {0: 12},
        "step_seconds": 0.1,
    }
    world.say("trained", "learner", **body)
    step, best, worst = world.last.events
    assert isinstance(step, StepDone) and isinstance(best, RolloutSample) and isinstance(worst, RolloutSample)
    assert (step.step, step.version, step.staleness) == (1, 1, {0: 12})
    assert step.statistics["reward"] == 0.5
    assert step.statistics["mixed_groups"] == pytest.approx(2 / 3), "a dropped group counts"
    assert step.statistics["source_reward/odd"] == step.statistics["source_reward/even"] == 0.5
    assert (best.reward, worst.reward, best.source, best.task_key) == (1.0, 0.0, "even", "t0")
    world.say("trained", "learner", **body)
    assert not world.last.events, "a step that is told twice happened once"


def test_a_run_of_one_source_has_no_statistics_by_source() -> None:
    world = World()
    world.submit(world.lease()[0])
    world.score([1.0, 0.0])
    world.say("take_batch", "learner", version=0)
    world.say("trained", "learner", version=0, statistics={}, staleness={}, step_seconds=0.1)
    (step, *_) = world.last.events
    assert isinstance(step, StepDone)
    of_groups = {name for name in step.statistics if not name.startswith("difficulty/")}
    assert of_groups == {"reward", "mixed_groups"}


def test_the_source_of_a_task_goes_along() -> None:
    world = World()
    even, odd = world.lease(capacity=2)
    assert (even["source"], odd["source"]) == ("even", "odd")
    world.submit(odd)
    (group,) = world.say("lease_verification", "verifier", capacity=1)["groups"]
    assert group["source"] == "odd"


def test_a_run_that_resumes_issues_what_was_not_trained() -> None:
    world = World()
    first, second = world.lease(capacity=2)
    world.submit(first)
    world.score([1.0, 0.0])
    world.say("take_batch", "learner", version=0)
    world.say("trained", "learner", version=0, statistics={}, staleness={}, step_seconds=0.1)
    snapshot = world.say("snapshot", "learner", version=1)["snapshot"]
    resumed = World()
    resumed.buffer = Buffer(world.buffer.ledger.limits, 2, Sums(), snapshot)
    assert [task["key"] for task in resumed.lease(capacity=2, version=1)] == [second["key"], "t2"]
    assert resumed.buffer.state.status()["version"] == 1
