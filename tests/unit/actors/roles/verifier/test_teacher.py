"""What a verifier asks of the teacher, and what it takes from it."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.config.loading import load
from actors.errors import GaveUpError, ScorerError
from actors.roles.scorer.messages import answer
from actors.roles.verifier.scorer_pool import ScorerPool
from actors.roles.verifier.teacher import TeacherScores, open_teacher
from actors.transport.codec import Message
from tests.unit.actors.roles.verifier.test_scorer_pool import FakeScorer

QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"
ARRAYS = {"prompt": np.array([1, 2], np.int32), "tokens": np.arange(5, dtype=np.int32)}
GROUP: dict[str, Any] = {"purpose": "train", "lengths": [2, 3]}


@pytest.fixture
def asked() -> Iterator[Callable[..., tuple[FakeScorer, TeacherScores]]]:
    made: list[tuple[FakeScorer, TeacherScores]] = []

    def make(value: float, count: int = 5) -> tuple[FakeScorer, TeacherScores]:
        said = {"scores": np.full(count, value, np.float32)}
        scorer = FakeScorer(lambda message: Message("reply", message.id, answer("scored"), said))
        made.append((scorer, TeacherScores(ScorerPool("verifier-1", 5.0, lambda: {"scorer-1": scorer.endpoint}))))
        return made[-1]

    yield make
    for scorer, teacher in made:
        teacher.close()
        scorer.close()


def test_the_tokens_travel_and_one_logprob_of_each_comes_back(asked: Any) -> None:
    scorer, teacher = asked(-1.5)
    found = teacher(GROUP, ARRAYS, time.monotonic() + 60)
    assert found.keys() == {"teacher_logprobs"} and found["teacher_logprobs"].tolist() == [-1.5] * 5
    (message,) = scorer.asked
    assert message.kind == "logprobs" and message.body["lengths"] == [2, 3]
    assert {name: array.tolist() for name, array in message.arrays.items()} == {
        name: array.tolist() for name, array in ARRAYS.items()
    }


def test_an_evaluation_is_not_the_teachers_to_judge(asked: Any) -> None:
    scorer, teacher = asked(-1.5)
    assert teacher(GROUP | {"purpose": "evaluate"}, {}, time.monotonic() + 60) == {}
    assert not scorer.asked


@pytest.mark.parametrize(("value", "count"), [(np.nan, 5), (-np.inf, 5), (0.5, 5), (-1.0, 4)])
def test_what_are_no_logprobs_of_the_tokens_is_an_error(asked: Any, value: float, count: int) -> None:
    _, teacher = asked(value, count)
    with pytest.raises(ScorerError, match=r"its weights may be damaged|other than the 5 scores"):
        teacher(GROUP, ARRAYS, time.monotonic() + 1.5)


def test_it_is_waited_for_before_a_group_is_taken_and_not_for_ever() -> None:
    plain = load(QUICKSTART)
    assert open_teacher(plain, "v", dict, lambda: False) is None
    distilled = load(
        QUICKSTART,
        ["distillation={teacher: teacher, wait_seconds: 0.1}", "learner.objective.name=opd"],
    )
    with pytest.raises(GaveUpError, match=r"waited 0\.1 s for a scorer; .* raise distillation\.wait_seconds"):
        open_teacher(distilled, "v", dict, lambda: False)
    assert open_teacher(distilled, "v", dict, lambda: True) is None
    with closing(open_teacher(distilled, "v", lambda: {"s": "tcp://127.0.0.1:1"}, lambda: False)):
        pass
