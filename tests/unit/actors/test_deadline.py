"""Trying again, with an end."""

import pytest

from actors.deadline import persistently
from actors.errors import RecipeError, StorageError


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
