"""The replay without its socket: groups, verdicts, batches, evaluations."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from actors.errors import ProtocolError, RecipeError
from actors.events import RolloutSample, StepDone
from actors.replay import messages as m
from actors.replay.buffer import Buffer
from actors.replay.delivery import Delivery
from actors.replay.limits import ReplayLimits
from actors.replay.payload import Payload
from actors.replay.reply import Reply
from actors.replay.rewards import Verified
from actors.transport.codec import Message, parse


class Sums:
    """A task source for tests: task n is n + n."""

    held_out = 3

    def train(self, index: int) -> Mapping[str, Any]:
        messages = [["user", f"{index}+{index}="]]
        return {
            "key": f"t{index}",
            "messages": messages,
            "verifier": "exact",
            "reference": {},
            "source": "odd" if index % 2 else "even",
        }

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
    """A buffer and short words for what its clients say; `last` is the latest reply."""

    def __init__(self, **limits: Any) -> None:
        self.buffer = Buffer(ReplayLimits(**({"max_staleness": 1, "groups_per_batch": 1} | limits)), 2, Sums())
        self.now = 0.0
        self.reported_version = 0
        self.last = Reply({})

    def say(self, kind: str, role: str, arrays: Mapping[str, Any] | None = None, number: int = 1, **body: Any) -> Any:
        request = parse(Message(kind, number, {"worker": role, "role": role, **body}), m.REQUESTS)
        assert isinstance(request, m.BufferRequest)
        reply = self.buffer.answer(request, arrays or {}, self.now, self.reported_version, number)
        self.last = reply or Reply({})
        return None if reply is None else dict(reply.body) | {"arrays": reply.arrays}

    def lease(self, capacity: int = 1, version: int = 0) -> list[dict[str, Any]]:
        reply = self.say("lease", "generator", version=version, capacity=capacity)
        return reply["tasks"] if reply else []

    def submit(self, task: Mapping[str, Any], version: int = 0) -> Any:
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

    def reject(self, task: Mapping[str, Any], reason: str, detail: str = "") -> Any:
        lease = {"purpose": task["purpose"], "group_id": task["group_id"]}
        return self.say("group_rejected", "generator", **lease, reason=reason, detail=detail)

    def score(self, accuracies: list[float] | None, answers: list[str] | None = None, **more: Any) -> Any:
        (group,) = self.say("lease_verification", "verifier", capacity=1)["groups"]
        lease = {"purpose": group["purpose"], "group_id": group["group_id"]}
        if accuracies is None:
            return self.say("verdict", "verifier", **lease, scores=None, **more)
        names = answers or [str(a) for a in accuracies]
        scores = [
            {"status": "ok", "reward": a, "parts": {"accuracy": a}, "answer": name}
            for a, name in zip(accuracies, names, strict=True)
        ]
        return self.say("verdict", "verifier", **lease, scores=scores)


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


def test_verifiers_never_see_tokens() -> None:
    world = World()
    world.submit(world.lease()[0])
    reply = world.say("lease_verification", "verifier", capacity=1)
    assert reply["arrays"] == {}
    assert reply["groups"][0]["texts"] == ["a", "a"]


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


class Taught(World):
    """A world whose groups a teacher scores."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = Buffer(ReplayLimits(max_staleness=1, groups_per_batch=1), 2, Sums(), teacher=True)

    def verdict(self, task: Mapping[str, Any], said: Any, rewards: tuple[float, ...] = (1.0, 0.0)) -> Any:
        scores = [{"status": "ok", "reward": reward} for reward in rewards]
        lease = {"purpose": task["purpose"], "group_id": task["group_id"]}
        arrays = {} if said is None else {"teacher_logprobs": said}
        return self.say("verdict", "verifier", arrays, **lease, scores=scores)


SAID = np.linspace(-4, 0, 6, dtype=np.float32)


def test_a_teacher_gets_the_tokens_of_a_group_and_the_learner_what_it_says_of_them() -> None:
    world = Taught()
    (task,) = world.lease()
    world.submit(task)
    leased = world.say("lease_verification", "verifier", capacity=1)
    assert leased["groups"][0]["lengths"] == [3, 3]
    assert leased["arrays"].keys() == {"0.prompt", "0.tokens"}
    assert np.array_equal(leased["arrays"]["0.tokens"], payload().tokens)
    assert world.verdict(task, SAID)["accepted"]
    batch = world.say("take_batch", "learner", version=0)
    assert batch["arrays"]["0.teacher_logprobs"].tolist() == SAID.tolist()


@pytest.mark.parametrize("said", [None, SAID[1:], np.full(6, np.nan, np.float32)], ids=["none", "short", "nan"])
def test_a_verdict_without_the_teachers_logprobs_changes_nothing(said: Any) -> None:
    world = Taught()
    (task,) = world.lease()
    world.submit(task)
    world.say("lease_verification", "verifier", capacity=1)
    with pytest.raises(ProtocolError):
        world.verdict(task, said)
    assert world.say("take_batch", "learner", version=0) is None
    assert world.verdict(task, SAID)["accepted"], "its lease goes on"
    assert world.say("take_batch", "learner", version=0)["arrays"]["0.teacher_logprobs"].tolist() == SAID.tolist()


def test_a_verdict_that_comes_too_late_replaces_nothing_that_the_teacher_has_said() -> None:
    world = Taught()
    (task,) = world.lease()
    world.submit(task)
    world.say("lease_verification", "verifier", capacity=1)
    world.verdict(task, SAID)
    world.verdict(task, SAID - 1)
    assert world.say("take_batch", "learner", version=0)["arrays"]["0.teacher_logprobs"].tolist() == SAID.tolist()


def test_no_teacher_is_asked_of_an_evaluation() -> None:
    world = Taught()
    world.say("evaluate", "learner", name="before", version=0, samples=2)
    (task,) = world.lease()
    world.submit(task)
    assert world.say("lease_verification", "verifier", capacity=1)["arrays"] == {}
    assert world.verdict(task, None)["accepted"]
