"""Who lives and does not work, as the controller finds out and sees to it, with a real replay. No Ray."""

from contextlib import closing
from typing import Any

import pytest

from actors.deadline import until
from actors.errors import PeerTimeoutError
from tests.unit.actors.control.controller_life import SECONDS, Life, up

IMPATIENT = [
    "membership.heartbeat_seconds=0.1",
    "membership.timeout_seconds=0.5",
    "controller.hang_seconds=0.5",
    "controller.startup_seconds=0.5",
]
impatient = pytest.mark.parametrize("life", [IMPATIENT], indirect=True)


class Unanswered:
    """A client of a replay that hangs; it does not wait as long as a real one."""

    def request(self, kind: str, *_: Any, **__: Any) -> Any:
        raise PeerTimeoutError(f"the replay did not answer {kind}")

    def close(self) -> None:
        """There is nothing to close."""


@impatient
def test_a_generator_that_falls_silent_is_named_and_replaced(life: Life) -> None:
    with closing(up(life, "generator")):
        first = life.starter.of("generator")[0]
        said = life.wait_for("unresponsive")
        assert (said["member"], said["state"]) == (first.context.name, "silent")
        restart = life.wait_for("restart")
        assert restart["member"] == first.context.name and "not heard of" in restart["reason"]
        assert first.killed
        assert until(lambda: life.controller.status()["unresponsive"] == {}, SECONDS)


@pytest.mark.parametrize("life", [[*IMPATIENT, "controller.hang_seconds=100"]], indirect=True)
def test_a_generator_that_is_heard_of_again_is_taken_back(life: Life) -> None:
    with closing(up(life, "generator")) as client:
        name = life.wait_for("unresponsive")["member"]
        assert name in life.controller.status()["unresponsive"]
        client.request("heartbeat", {"report": {"ready": True}})
        assert until(lambda: any(e.get("state") == "back" for e in life.events()), SECONDS)
        assert not life.starter.of("generator")[0].killed
        assert not [e for e in life.events() if e["kind"] == "restart"]


@impatient
def test_a_learner_that_falls_silent_is_killed_and_starts_again(life: Life) -> None:
    with closing(up(life, "learner")):
        restart = life.wait_for("restart")
    assert restart["role"] == "learner" and "not heard of" in restart["reason"]
    assert life.starter.of("learner")[0].killed
    life.starter.wait_for("learner", 2)


@impatient
def test_a_replay_that_does_not_answer_is_killed_and_starts_again(life: Life) -> None:
    life.wait_for("tick")
    life.controller._watch.shards[0].client = Unanswered()
    life.starter.halt_replay()
    assert life.wait_for("unresponsive")["member"] == "replay"
    assert life.wait_for("restart")["role"] == "replay"
    assert life.starter.of("replay")[0].killed
    life.starter.wait_for("replay", 2)


def test_who_never_came_up_ends_the_run_at_once(life: Life) -> None:
    life.starter.of("generator")[0].die("ValueError: block_size must be a multiple of 32")
    phase = life.end()[-1]
    assert phase["name"] == "failed" and "did not come up: ValueError: block_size" in phase["detail"]
    assert len(life.starter.of("generator")) == 1
    assert "--resume" not in phase["detail"], "there is nothing to resume from"
