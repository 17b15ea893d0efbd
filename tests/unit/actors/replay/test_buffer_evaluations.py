"""The replay without its socket: evaluations, beside which training goes on."""

import pytest

from actors.events import EvaluationDone, EvaluationMissing
from tests.unit.actors.replay.buffer_world import World


def test_an_evaluation_goes_before_training_and_counts_each_task_once() -> None:
    world = World()
    number = world.say("evaluate", "learner", name="before", version=0, samples=3)["evaluation"]
    tasks = world.lease(capacity=3)
    assert [t["key"] for t in tasks] == ["h0", "h1", "h2"]
    assert "result" not in world.say("evaluation_result", "learner", evaluation=number)
    for task in tasks:
        world.submit(task)
    world.score([1.0, 1.0, 0.0], ["4", "4", "5"])
    world.score([1.0, 0.0, 0.0], ["4", "5", "5"])
    world.score([0.0, 0.0, 0.0], ["1", "2", "3"])
    (event,) = world.last.events
    assert isinstance(event, EvaluationDone) and event.name == "before"
    result = world.say("evaluation_result", "learner", evaluation=number)["result"]
    assert result["pass_at_1"] == pytest.approx(3 / 9)
    assert result["maj_at_k"] == pytest.approx(1 / 3)
    assert (result["n"], result["k"]) == (3, 3)


def test_a_held_out_task_that_cannot_be_scored_is_left_out_and_counted() -> None:
    world = World()
    number = world.say("evaluate", "learner", name="before", version=0, samples=1)["evaluation"]
    long, broken, fine = world.lease(capacity=3)
    world.reject(long, "overlong", "a prompt of 900 tokens")
    world.submit(broken)
    world.submit(fine)
    world.score(None, retryable=False, detail="no unit is called furlong")
    assert world.lease(capacity=1)[0]["purpose"] == "train", "nothing takes the place of what is left out"
    world.score([1.0])
    result = world.say("evaluation_result", "learner", evaluation=number)["result"]
    assert (result["n"], result["pass_at_1"]) == (1, 1.0)
    assert result["left_out"] == {"overlong": 1, "infra_error": 1}
    told = world.buffer.state.status()["refusals"]
    assert told == {"overlong": "a prompt of 900 tokens", "infra_error": "no unit is called furlong"}


def test_an_evaluation_of_which_nothing_is_left_says_why_and_the_next_one_begins() -> None:
    world = World()
    first, second = (
        world.say("evaluate", "learner", name=name, version=0, samples=1)["evaluation"] for name in ("one", "two")
    )
    for task in world.lease(capacity=3):
        world.reject(task, "malformed", "a template that raises")
    (event,) = world.last.events
    assert isinstance(event, EvaluationMissing) and event.name == "one"
    missing = world.say("evaluation_result", "learner", evaluation=first)["missing"]
    assert missing == "none of the 3 held-out tasks could be scored (3 malformed): a template that raises"
    standing = world.say("evaluation_result", "learner", evaluation=second)
    assert standing["waits_for"] == "a generator that is free (3 of 3 held-out tasks)"


def test_whoever_waits_for_an_evaluation_sees_its_progress_and_who_has_its_tasks() -> None:
    world = World()
    number = world.say("evaluate", "learner", name="before", version=0, samples=1)["evaluation"]
    tasks, seen = world.lease(capacity=3), []

    def standing() -> str:
        told = world.say("evaluation_result", "learner", evaluation=number)
        assert told["progress"] not in seen, "something was achieved"
        seen.append(told["progress"])
        return str(told["waits_for"])

    assert standing() == "generator (3 of 3 held-out tasks)"
    world.submit(tasks[0])
    assert standing() == "generator (2 of 3 held-out tasks), a verifier that is free (1 of 3 held-out tasks)"
    world.score([1.0])
    assert standing() == "generator (2 of 3 held-out tasks)"
    world.reject(tasks[1], "overlong")
    assert standing() == "generator (1 of 3 held-out tasks)"


def test_a_held_out_task_that_its_generators_die_of_ends_no_evaluation() -> None:
    world = World(generation_attempts=2)
    world.say("evaluate", "learner", name="before", version=0, samples=1)
    for task in world.lease(capacity=2):
        world.submit(task)
        world.score([1.0])
    for _ in range(2):
        (poison,) = world.lease()
        assert poison["key"] == "h2"
        events = world.buffer.worker_lost("generator")
    (event,) = events
    assert isinstance(event, EvaluationDone) and (event.n, event.left_out) == (2, {"attempts_exhausted": 1})
    assert (
        "task h2 of even: its generator or its lease was lost 2 times"
        in world.buffer.state.status()["refusals"]["attempts_exhausted"]
    )


def test_a_group_of_an_earlier_evaluation_is_not_taken_for_one_of_the_next() -> None:
    world = World(lease_seconds=10)
    world.say("evaluate", "learner", name="one", version=0, samples=2)
    late = world.lease(capacity=3)
    world.now = 11.0
    world.buffer.expire(world.now)
    for task in world.lease(capacity=3):
        world.submit(task)
        world.score([1.0, 0.0])
    world.say("evaluate", "learner", name="two", version=0, samples=2)
    world.lease(capacity=3)
    assert not world.submit(late[0])["accepted"]
