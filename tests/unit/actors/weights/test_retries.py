"""Who is in the next update after others have failed."""

from actors.weights.retries import FIRST_SECONDS, MAX_SECONDS, Retries


def test_whoever_has_not_failed_is_in_the_next_update_at_once() -> None:
    assert Retries().choose(["a", "b"], now=0.0) == ["a", "b"]


def test_after_a_first_failure_all_are_tried_together_once_more() -> None:
    retries = Retries()
    retries.failed(["a", "b"], now=10.0)
    assert retries.choose(["a", "b", "c"], now=10.0) == ["c"]
    assert retries.choose(["a", "b", "c"], now=10.0 + FIRST_SECONDS) == ["a", "b", "c"]


def test_whoever_fails_again_holds_nobody_up() -> None:
    retries = Retries()
    for now in (0.0, 1.0):
        retries.failed(["b", "c"], now)
    assert retries.choose(["a", "b", "c"], now=2.0) == ["a"]
    assert retries.choose(["b", "c"], now=2.0) == ["b"], "each has an epoch of its own"


def test_the_time_between_two_attempts_doubles_up_to_a_bound() -> None:
    retries, now, waits = Retries(), 0.0, []
    for _ in range(12):
        retries.failed(["a"], now)
        wait = next(w for w in (FIRST_SECONDS * 2**i for i in range(20)) if retries.choose(["a"], now + w))
        waits.append(wait)
        now += MAX_SECONDS
    assert waits[:4] == [FIRST_SECONDS * 2**i for i in range(4)]
    assert retries.choose(["a"], now) == ["a"], "it is never left out for longer than that"


def test_a_success_ends_it() -> None:
    retries = Retries()
    for _ in range(5):
        retries.failed(["a"], now=0.0)
    retries.succeeded(["a"])
    assert retries.choose(["a", "b"], now=0.0) == ["a", "b"]
