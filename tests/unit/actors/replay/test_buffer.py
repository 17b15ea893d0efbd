"""The replay without its socket: groups, leases and verdicts."""

from collections.abc import Mapping
from typing import Any

import pytest

from actors.errors import ProtocolError, RecipeError
from tests.unit.actors.replay.buffer_world import Sums, World, payload


def test_a_verifier_gets_the_messages_that_a_prompt_was_made_of() -> None:
    world = World()
    (task,) = world.lease()
    world.submit(task)
    (group,) = world.say("lease_verification", "verifier", capacity=1)["groups"]
    assert group["messages"] == [["user", "0+0="]]


def test_a_group_goes_all_the_way() -> None:
    world = World()
    (task,) = world.lease()
    assert world.submit(task)["accepted"]
    world.score([1.0, 0.0])
    batch = world.say("take_batch", "learner", version=0)
    parts = [{"accuracy": 1.0}, {"accuracy": 0.0}]
    assert batch["groups"] == [{"group_id": task["group_id"], "source": "even", "rewards": [1.0, 0.0], "parts": parts}]
    assert (batch["arrays"]["0.tokens"] == payload().tokens).all()
    world.say("trained", "learner", version=0, statistics={"loss": 1.0}, staleness={0: 6}, step_seconds=0.1)
    world.say("committed", "learner", version=1)
    assert world.buffer.state.status()["groups"]["committed"] == 1
    assert world.buffer.records == {}, "a committed group's tokens are still in memory"


def test_verifiers_never_see_tokens() -> None:
    world = World()
    world.submit(world.lease()[0])
    reply = world.say("lease_verification", "verifier", capacity=1)
    assert reply["arrays"] == {}
    assert reply["groups"][0]["texts"] == ["a", "a"]


def test_a_malformed_group_changes_nothing() -> None:
    world = World()
    (task,) = world.lease()
    good = payload()
    for name, array in good.arrays().items():
        arrays = good.arrays() | {name: array[: len(array) - 2]}
        with pytest.raises(ProtocolError):
            world.say("group_arrived", "generator", arrays, purpose="train", group_id=task["group_id"], prompt="",
                      texts=["a", "a"])  # fmt: skip
    assert world.submit(task)["accepted"], "the lease must still be open"


def test_a_lost_worker_loses_its_lease() -> None:
    world = World()
    (task,) = world.lease()
    world.buffer.worker_lost("generator")
    assert not world.submit(task)["accepted"]
    assert world.buffer.records == {}
    assert world.lease()[0]["key"] == task["key"]


def test_a_lost_verifiers_groups_are_verified_by_another() -> None:
    world = World()
    world.submit(world.lease()[0])
    assert world.say("lease_verification", "verifier", capacity=1)["groups"]
    assert world.say("lease_verification", "verifier", capacity=1) is None
    world.buffer.worker_lost("verifier")
    assert world.score([1.0, 0.0])["accepted"]


def test_an_update_during_a_long_poll_admits_more() -> None:
    world = World(max_staleness=0)
    world.submit(world.lease()[0])
    world.score([1.0, 0.0])
    world.say("take_batch", "learner", version=0)
    world.say("trained", "learner", version=0, statistics={}, staleness={}, step_seconds=0.1)
    assert world.lease(version=0) == []
    world.reported_version = 1
    assert len(world.lease(version=0)) == 1


def test_a_task_that_its_source_cannot_make_is_dropped_and_the_others_are_leased() -> None:
    class Torn(Sums):
        def train(self, index: int) -> Mapping[str, Any]:
            if index == 1:
                raise RecipeError("the family cannot make problem 1")
            return super().train(index)

    world = World(groups_per_batch=3)
    world.buffer.tasks = Torn()
    assert [task["key"] for task in world.lease(capacity=3)] == ["t0", "t2"]
    assert world.buffer.state.status()["groups"]["dropped"] == {"malformed": 1}
    assert world.buffer.state.status()["refusals"] == {"malformed": "the family cannot make problem 1"}
    assert [task["key"] for task in world.lease(capacity=3)] == ["t3", "t4", "t5"], "it is not issued again"


def test_a_token_that_the_model_does_not_have_never_reaches_the_learner() -> None:
    world = World()
    world.buffer.vocabulary = 5
    (task,) = world.lease()
    with pytest.raises(ProtocolError, match="token 5 of a model with 5 token ids"):
        world.submit(task)
    world.buffer.vocabulary = 6
    assert world.submit(task)["accepted"]


def test_a_lease_is_renewed_for_what_its_generator_names() -> None:
    world = World(groups_per_batch=2, lease_seconds=10)
    kept, lost = world.lease(capacity=2)
    world.now = 8.0
    world.say("renew", "generator", purpose="train", group_ids=[kept["group_id"], 12345])
    world.now = 12.0
    world.buffer.expire(world.now)
    assert not world.submit(lost)["accepted"]
    assert world.submit(kept)["accepted"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("lease", {"version": -1, "capacity": 1}),
        ("lease", {"version": 0, "capacity": 10**9}),
        ("lease", {"version": 0, "capacity": 1, "more": 1}),
        ("verdict", {"purpose": "train", "group_id": 0, "scores": [{"status": "ok", "reward": float("nan")}]}),
        ("trained", {"version": 7, "statistics": {}, "staleness": {}, "step_seconds": 1.0}),
        ("nonsense", {}),
    ],
)
def test_bad_requests_are_rejected(kind: str, body: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        World().say(kind, "learner", **body)


def test_of_sampled_tasks_those_without_a_rule_are_left_out_of_the_accuracy() -> None:
    world = World()
    number = world.say("evaluate", "learner", name="sample", version=0, samples=1, training=2)["evaluation"]
    for verdict in ({"status": "unverified", "parts": {}}, {"status": "wrong", "parts": {"accuracy": 0.0}}):
        (task,) = world.lease()
        world.submit(task)
        (group,) = world.say("lease_verification", "verifier", capacity=1)["groups"]
        lease = {"purpose": group["purpose"], "group_id": group["group_id"]}
        world.say("verdict", "verifier", **lease, scores=[{"reward": 0.5, **verdict}])
    result = world.say("evaluation_result", "learner", evaluation=number)["result"]
    assert (result["n"], result["pass_at_1"], result["left_out"]) == (1, 0.0, {"no_rule": 1})
