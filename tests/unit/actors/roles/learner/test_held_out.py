"""How long an evaluation is waited for."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from actors.errors import RunError
from actors.roles.learner.held_out import EvaluationMissingError, await_evaluation

Standing = dict[str, Any]


class Slow:
    """Answers with one standing after another, the last one for ever; an hour passes between two looks."""

    def __init__(self, *standings: Standing) -> None:
        self.standings, self.hours, self.looks = list(standings), 0.0, 0

    def __call__(self, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        assert (kind, body) == ("evaluation_result", {"evaluation": 3})
        self.looks += 1
        return self.standings.pop(0) if len(self.standings) > 1 else self.standings[0]

    def clock(self) -> float:
        return 3600 * self.hours

    def sleep(self, _: float) -> None:
        self.hours += 1

    def awaited(self, stall_hours: float, stopped: Iterator[bool] | None = None) -> None:
        await_evaluation(
            self, 3, "after", 3600 * stall_hours, lambda: next(stopped) if stopped else False, self.clock, self.sleep
        )


def standing(progress: int) -> Standing:
    return {"progress": [0, progress], "waits_for": "generator-2 (3 of 8 held-out tasks)"}


def test_it_may_take_as_long_as_it_likes_while_it_gets_on() -> None:
    slow = Slow(*(standing(n) for n in range(200)), {"result": {"n": 8}})
    slow.awaited(stall_hours=1.5)
    assert slow.hours == 200


def test_one_that_stands_still_is_given_up_and_whom_it_waits_for_is_named() -> None:
    with pytest.raises(RunError, match=r"waited 7200 s .evaluation.stall_seconds.* 'after', .* waits for generator-2 "):
        Slow(standing(0), standing(1)).awaited(stall_hours=2)


def test_one_that_ended_without_a_result_says_why() -> None:
    with pytest.raises(EvaluationMissingError, match="the evaluation 'after': none of the 8"):
        Slow(standing(0), {"missing": "none of the 8 held-out tasks could be scored"}).awaited(stall_hours=2)


def test_a_stop_ends_the_wait() -> None:
    slow = Slow(standing(0))
    slow.awaited(stall_hours=1e9, stopped=iter([False, False, True]))
    assert slow.looks == 2
