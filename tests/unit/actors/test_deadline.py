"""Trying again, with an end."""

from types import SimpleNamespace

import pytest

from actors import deadline
from actors.deadline import persistently, until
from actors.errors import RecipeError, StorageError


def test_who_stood_still_past_the_deadline_looks_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was waited for may have happened meanwhile."""
    now, looks = [0.0], []

    def condition() -> bool:
        looks.append(now[0])
        now[0] += 1000.0  # suspended right after it looked
        return len(looks) > 1

    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None))
    assert until(condition, 10.0, interval=0.0)
    assert len(looks) == 2
    looks.clear()
    assert not until(lambda: bool(looks.append(now[0])), -1.0), "it looks once, however late it is"
    assert len(looks) == 1


def test_what_fails_for_a_while_is_tried_again_and_what_fails_for_good_is_not() -> None:
    left = [StorageError("503"), StorageError("503")]

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    assert persistently(action, StorageError, 60, pause=0.001) == "done"

    calls = []

    def refused() -> None:
        calls.append(1)
        raise RecipeError("no access")

    with pytest.raises(RecipeError):
        persistently(refused, StorageError, 60, pause=0.001)
    assert len(calls) == 1


def test_the_last_error_is_raised_in_the_end() -> None:
    def action() -> None:
        raise StorageError("503")

    with pytest.raises(StorageError, match="503"):
        persistently(action, StorageError, 0.05, pause=0.01)


def test_a_failure_that_says_when_is_not_tried_sooner() -> None:
    said: list[str] = []
    left = [StorageError("60")]

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    def seconds(error: StorageError) -> float:
        return float(str(error))

    with pytest.raises(StorageError, match="60"):
        persistently(action, StorageError, 30, pause=0.001, asked=seconds)
    left.append(StorageError("0.002"))
    warn = lambda text, *arguments: said.append(text % arguments)  # noqa: E731
    assert persistently(action, StorageError, 30, pause=0.001, asked=seconds, warn=warn) == "done"
    assert said == ["0.002; tried again in 0.002 s"]
