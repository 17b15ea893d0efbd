"""The replay without its socket, where a teacher says of tokens what it thinks of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from actors.errors import ProtocolError
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from tests.unit.actors.replay.buffer_world import Sums, World, payload


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
