"""What a verifier makes of a leased group, and of the verdicts on it."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.config.loading import load
from actors.deadline import until
from actors.errors import ScorerError
from actors.replay.messages import REQUESTS, SubmitVerdict
from actors.roles.role import RoleContext, Storage
from actors.roles.verifier import verifier as module
from actors.roles.verifier.observables import Observer
from actors.roles.verifier.verifier import Verifier, broken, score_group, submissions_of, verdict_of
from actors.transport.codec import Array, Message, parse
from learner.errors import BatchError
from sandbox import PoolClosedError, Status, Verdict
from tests.unit.actors.transport.test_client import FakeReplay

QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"

OBSERVE = Observer(load(QUICKSTART))

GROUP: dict[str, Any] = {
    "purpose": "train",
    "group_id": 7,
    "verifier": "numeric",
    "reference": '{"answer": "12"}',
    "source": "sums",
    "messages": [["system", "Be brief."], ["user", "5+7="]],
    "texts": ["<answer>12</answer>", "it is 13"],
    "truncated": [0, 1],
    "lengths": [9, 4],
}


def verdict(status: Status, reward: float | None, detail: str = "") -> Verdict:
    return Verdict(status, reward, {"accuracy": reward or 0.0}, seconds=0.1, detail=detail)


def test_a_completion_is_a_submission_with_all_that_its_verifier_needs() -> None:
    first, second = submissions_of(GROUP)
    assert (first.verifier, first.response, first.reference) == ("numeric", "<answer>12</answer>", {"answer": "12"})
    assert (first.truncated, second.truncated) == (False, True)
    assert first.prompt == second.prompt == "5+7=", "the task's words, without those of a template or the system"


def test_verdicts_carry_reward_parts_and_the_answer_for_the_majority_vote() -> None:
    verdicts = [verdict(Status.OK, 1.0), verdict(Status.WRONG, 0.0)]
    scores = verdict_of(GROUP, submissions_of(GROUP), verdicts, OBSERVE)["scores"]
    assert [s["reward"] for s in scores] == [1.0, 0.0]
    assert [s["answer"] for s in scores] == ["12", None]


@pytest.mark.parametrize("position", [0, 1])
def test_one_infra_error_sends_the_whole_group_back_unscored(position: int) -> None:
    verdicts = [verdict(Status.OK, 1.0), verdict(Status.OK, 1.0)]
    verdicts[position] = verdict(Status.INFRA_ERROR, None, "the sandbox broke")
    told = verdict_of(GROUP, submissions_of(GROUP), verdicts, OBSERVE)
    assert told["scores"] is None and told["group_id"] == 7
    assert "the sandbox broke" in told["detail"]


@pytest.mark.parametrize("retryable", [True, False])
def test_another_attempt_is_made_only_where_the_machine_was_at_fault(retryable: bool) -> None:
    failed = Verdict(Status.INFRA_ERROR, None, {}, 0.1, "numeric: the answer is not a number", retryable=retryable)
    told = verdict_of(GROUP, submissions_of(GROUP), [verdict(Status.OK, 1.0), failed], OBSERVE)
    assert (told["scores"], told["retryable"]) == (None, retryable)
    assert told["detail"] == "numeric: the answer is not a number"


def test_an_explanation_is_cut_to_what_the_replay_takes() -> None:
    told = broken(GROUP, "x" * 10_000, retryable=True)
    request = parse(Message("verdict", 1, {"worker": "v", "role": "verifier", **told}), REQUESTS)
    assert isinstance(request, SubmitVerdict) and 100 < len(request.detail) < 10_000


class Scripted:
    """A pool that gives the same verdicts, or raises, and a client of the replay that refuses what is out of form."""

    def __init__(self, answer: list[Verdict] | Exception) -> None:
        self.answer = answer
        self.taken: list[dict[str, Any]] = []
        self.arrays: list[dict[str, Array]] = []

    def score(self, *_: Any) -> list[Verdict]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def request(self, kind: str, body: Mapping[str, Any], arrays: Mapping[str, Array] | None = None, /) -> None:
        parse(Message(kind, 1, {"worker": "v", "role": "verifier", **body}), REQUESTS)
        self.taken.append(dict(body))
        self.arrays.append(dict(arrays or {}))


def scored(answer: list[Verdict] | Exception) -> dict[str, Any]:
    """What the replay is told of a group that is answered like this."""
    scripted = Scripted(answer)
    score_group(scripted, scripted, GROUP, 5.0, OBSERVE)
    (taken,) = scripted.taken
    return taken


def test_a_verifier_that_raises_ends_nothing_and_its_words_reach_the_replay() -> None:
    told = scored(KeyError("units"))
    assert (told["scores"], told["detail"], told["retryable"]) == (None, "KeyError: 'units'", True)


def test_parts_that_are_no_numbers_are_an_infra_error_that_is_not_repeated() -> None:
    fine = verdict(Status.OK, 1.0)
    told = scored([fine, Verdict(Status.OK, 1.0, {"accuracy": 1.0, "margin": float("nan")}, 0.1)])
    assert (told["scores"], told["retryable"]) == (None, False)
    assert "margin" in told["detail"] and "finite" in told["detail"]


def test_a_pool_that_is_closed_ends_its_verifier() -> None:
    with pytest.raises(PoolClosedError):
        scored(PoolClosedError("this pool is closed"))


# ---------------------------------------------------------------- its end


@pytest.fixture
def replay() -> Iterator[FakeReplay]:
    """One that has no work."""
    with closing(FakeReplay()) as fake:
        yield fake


@pytest.mark.parametrize("stopped", [False, True])
def test_who_is_told_to_leave_stays_for_a_moment_in_which_the_run_may_end(
    tmp_path: Path, replay: FakeReplay, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(module, "LEAVE_SECONDS", 1000.0 if stopped else 0.5)
    recipe = load(QUICKSTART, ["sandbox.workers=1"])
    verifier = Verifier(RoleContext(recipe, "verifier-1", Storage(tmp_path), replay.endpoint))
    thread = threading.Thread(target=verifier.run, daemon=True)
    thread.start()
    assert until(lambda: any("capacity" in body for body in replay.bodies), 60)
    verifier.drain()
    assert thread.is_alive()
    if stopped:
        assert not until(lambda: not thread.is_alive(), 1.5)
        verifier.stop()
    thread.join(60)
    assert not thread.is_alive()


SAID = {"teacher_logprobs": np.full(13, -1, np.float32)}


def taught(teacher: Any, answer: list[Verdict] | None = None) -> Scripted:
    scripted = Scripted(answer or [verdict(Status.OK, 1.0), verdict(Status.WRONG, 0.0)])
    score_group(scripted, scripted, GROUP, 60.0, OBSERVE, teacher=teacher)
    return scripted


def test_what_the_teacher_says_goes_with_the_verdict() -> None:
    asked: list[float] = []

    def teacher(group: Mapping[str, Any], *, deadline: float) -> dict[str, Array]:
        asked.append(deadline - time.monotonic())
        assert group is GROUP
        return SAID

    told = taught(teacher)
    assert told.arrays == [SAID] and [score["reward"] for score in told.taken[0]["scores"]] == [1.0, 0.0]
    assert 0 < asked[0] <= 60.0


@pytest.mark.parametrize(("error", "again"), [(ScorerError("away"), True), (BatchError("too long"), False)])
def test_a_group_that_no_teacher_has_scored_is_never_learned_from(error: Exception, again: bool) -> None:
    def teacher(*_: Any, **__: Any) -> dict[str, Array]:
        raise error

    told = taught(teacher)
    assert told.arrays == [{}]
    assert told.taken[0]["scores"] is None and told.taken[0]["retryable"] is again
    assert told.taken[0]["detail"] == f"teacher: {type(error).__name__}: {error}"


def test_the_teacher_is_not_asked_of_what_could_not_be_verified() -> None:
    def teacher(*_: Any, **__: Any) -> dict[str, Array]:
        raise AssertionError("asked in vain")

    told = taught(teacher, [verdict(Status.INFRA_ERROR, None, "broke"), verdict(Status.OK, 1.0)])
    assert told.taken[0]["detail"] == "broke"
