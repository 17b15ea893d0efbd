"""The replay without its socket: groups, verdicts, batches, evaluations."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from actors.errors import ProtocolError
from actors.replay.buffer import Replay
from actors.replay.ledger import ReplayLimits
from actors.replay.payload import Payload
from actors.transport.codec import Message


class Sums:
    """A task source for tests: task n is n + n."""

    held_out = 3

    def train(self, index: int) -> Mapping[str, Any]:
        return {"key": f"t{index}", "messages": [["user", f"{index}+{index}="]], "verifier": "exact", "reference": {}}

    def evaluate(self, index: int) -> Mapping[str, Any]:
        return {**self.train(index), "key": f"h{index}"}


def payload(version: int = 0, samples: int = 2) -> Payload:
    return Payload(
        prompt=np.array([1, 2], np.int32),
        tokens=np.arange(3 * samples, dtype=np.int32),
        logprobs=np.full(3 * samples, -0.5, np.float32),
        lengths=np.full(samples, 3, np.int32),
        truncated=np.zeros(samples, np.uint8),
        spans=np.ones(samples, np.int32),
        span_versions=np.full(samples, version, np.int32),
        span_tokens=np.full(samples, 3, np.int32),
    )


class World:
    """A replay and short words for what its clients say."""

    def __init__(self, **limits: Any) -> None:
        self.replay = Replay(ReplayLimits(**({"max_staleness": 1, "groups_per_batch": 1} | limits)), 2, Sums())
        self.now = 0.0

    def say(self, kind: str, role: str, arrays: Mapping[str, Any] | None = None, **body: Any) -> Any:
        request = self.replay.parse(Message(kind, 1, {"worker": role, "role": role, **body}))
        reply = self.replay.answer(request, arrays or {}, self.now)
        return None if reply is None else dict(reply.body) | {"arrays": reply.arrays}

    def lease(self, capacity: int = 1, version: int = 0) -> list[dict[str, Any]]:
        reply = self.say("lease", "generator", version=version, capacity=capacity)
        return reply["tasks"] if reply else []

    def hand_in(self, task: Mapping[str, Any], version: int = 0) -> Any:
        samples = task["samples"]
        return self.say(
            "group_arrived",
            "generator",
            payload(version, samples).arrays(),
            purpose=task["purpose"],
            group_id=task["group_id"],
            prompt="p",
            texts=["a"] * samples,
        )

    def score(self, accuracies: list[float], answers: list[str] | None = None) -> Any:
        (group,) = self.say("lease_verification", "verifier", capacity=1)["groups"]
        names = answers or [str(a) for a in accuracies]
        scores = [
            {"status": "ok", "reward": a, "parts": {"accuracy": a}, "answer": name}
            for a, name in zip(accuracies, names, strict=True)
        ]
        return self.say("verdict", "verifier", purpose=group["purpose"], group_id=group["group_id"], scores=scores)


def test_a_verifier_gets_the_prompt_as_text_and_as_the_messages_it_was_made_of() -> None:
    world = World()
    (task,) = world.lease()
    world.hand_in(task)
    (group,) = world.say("lease_verification", "verifier", capacity=1)["groups"]
    assert (group["prompt"], group["messages"]) == ("p", [["user", "0+0="]])


def test_a_group_goes_all_the_way() -> None:
    world = World()
    (task,) = world.lease()
    assert world.hand_in(task)["accepted"]
    world.score([1.0, 0.0])
    batch = world.say("take_batch", "learner", version=0)
    parts = [{"accuracy": 1.0}, {"accuracy": 0.0}]
    assert batch["groups"] == [{"group_id": task["group_id"], "rewards": [1.0, 0.0], "parts": parts}]
    assert (batch["arrays"]["0.tokens"] == payload().tokens).all()
    world.say("trained", "learner", version=0, statistics={"loss": 1.0}, staleness={0: 6}, step_seconds=0.1)
    world.say("committed", "learner", version=1)
    assert world.replay.status()["groups"]["committed"] == 1
    assert world.replay.records == {}, "a committed group's tokens are still in memory"


def test_verifiers_never_see_tokens() -> None:
    world = World()
    world.hand_in(world.lease()[0])
    reply = world.say("lease_verification", "verifier", capacity=1)
    assert reply["arrays"] == {}
    assert reply["groups"][0]["texts"] == ["a", "a"]


def test_the_same_batch_is_delivered_again_until_it_is_committed() -> None:
    world = World()
    world.hand_in(world.lease()[0])
    world.score([1.0, 0.0])
    first = world.say("take_batch", "learner", version=0)
    world.say("trained", "learner", version=0, statistics={}, staleness={}, step_seconds=0.1)
    again = world.say("take_batch", "learner", version=0)
    assert again["groups"] == first["groups"]
    assert all((again["arrays"][name] == array).all() for name, array in first["arrays"].items())


def test_a_late_verdict_does_not_change_a_delivered_batch() -> None:
    world = World(verify_lease_seconds=1.0)
    world.hand_in(world.lease()[0])
    (slow,) = world.say("lease_verification", "verifier", capacity=1)["groups"]
    world.now = 2.0
    world.replay.expire(world.now, silence_seconds=60)
    world.score([1.0, 0.0])
    first = world.say("take_batch", "learner", version=0)
    scores = [{"status": "ok", "reward": 0.5, "parts": {"accuracy": 0.5}}] * 2
    world.say("verdict", "verifier", purpose="train", group_id=slow["group_id"], scores=scores)
    assert world.say("take_batch", "learner", version=0)["groups"] == first["groups"]


def test_a_malformed_group_changes_nothing() -> None:
    world = World()
    (task,) = world.lease()
    good = payload()
    for name, array in good.arrays().items():
        arrays = good.arrays() | {name: array[: len(array) - 2]}
        with pytest.raises(ProtocolError):
            world.say("group_arrived", "generator", arrays, purpose="train", group_id=task["group_id"], prompt="",
                      texts=["a", "a"])  # fmt: skip
    assert world.hand_in(task)["accepted"], "the lease must still be open"


def test_a_silent_worker_loses_its_lease() -> None:
    world = World()
    (task,) = world.lease()
    world.now = 30.0
    world.replay.expire(world.now, silence_seconds=20.0)
    assert not world.hand_in(task)["accepted"]
    assert world.lease()[0]["key"] == task["key"]


def test_a_heartbeat_keeps_a_lease() -> None:
    world = World(lease_seconds=100)
    (task,) = world.lease()
    world.now = 15.0
    world.say("heartbeat", "generator")
    world.now = 30.0
    world.replay.expire(world.now, silence_seconds=20.0)
    assert world.hand_in(task)["accepted"]


def test_an_update_during_a_long_poll_admits_more() -> None:
    world = World(max_staleness=0)
    world.hand_in(world.lease()[0])
    world.score([1.0, 0.0])
    world.say("take_batch", "learner", version=0)
    world.say("trained", "learner", version=0, statistics={}, staleness={}, step_seconds=0.1)
    assert world.lease(version=0) == []
    world.say("heartbeat", "generator", version=1)
    assert len(world.lease(version=0)) == 1


def test_an_evaluation_goes_before_training_and_counts_each_task_once() -> None:
    world = World()
    number = world.say("evaluate", "learner", name="before", version=0, samples=3)["evaluation"]
    tasks = world.lease(capacity=3)
    assert [t["key"] for t in tasks] == ["h0", "h1", "h2"]
    assert world.say("evaluation_result", "learner", evaluation=number) is None
    for task in tasks:
        world.hand_in(task)
    world.score([1.0, 1.0, 0.0], ["4", "4", "5"])
    world.score([1.0, 0.0, 0.0], ["4", "5", "5"])
    world.score([0.0, 0.0, 0.0], ["1", "2", "3"])
    result = world.say("evaluation_result", "learner", evaluation=number)["result"]
    assert result["pass_at_1"] == pytest.approx(3 / 9)
    assert result["maj_at_k"] == pytest.approx(1 / 3)
    assert (result["n"], result["k"]) == (3, 3)


def test_a_group_of_an_earlier_evaluation_is_not_taken_for_one_of_the_next() -> None:
    world = World(lease_seconds=10)
    world.say("evaluate", "learner", name="one", version=0, samples=2)
    late = world.lease(capacity=3)
    world.now = 11.0
    world.replay.expire(world.now, silence_seconds=100)
    for task in world.lease(capacity=3):
        world.hand_in(task)
        world.score([1.0, 0.0])
    world.say("evaluate", "learner", name="two", version=0, samples=2)
    world.lease(capacity=3)
    assert not world.hand_in(late[0])["accepted"]


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
def test_bad_requests_are_refused(kind: str, body: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        World().say(kind, "learner", **body)
